"""`python -m demega_jax` and `demega-jax`: signals are answered before anything else is imported."""

import os
import sys

from demega_jax.commands.shared.interrupts import answer_signals, from_now_on_at_once

ENDED_BY_SIGNAL = 128  # exit statuses above it name the signal


def start() -> int:
    """Run the command of this process; returns its exit status."""
    answer_signals()
    from demega_jax.cli import main

    try:
        status = main()
    finally:
        from_now_on_at_once()  # the interpreter ends, and would print a traceback
    if status > ENDED_BY_SIGNAL:
        # All is put away. Threads that a signal left within HDF5 could crash the interpreter while it ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(start())
