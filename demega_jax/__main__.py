"""`python -m demega_jax` and `demega-jax`: signals are answered before anything else is imported."""

import sys

from demega_jax.commands.shared.interrupts import answer_signals, from_now_on_at_once


def start() -> int:
    """Run the command of this process; returns its exit status."""
    answer_signals()
    from demega_jax.cli import main

    try:
        return main()
    finally:
        from_now_on_at_once()  # the interpreter ends, and would print a traceback


if __name__ == "__main__":
    sys.exit(start())
