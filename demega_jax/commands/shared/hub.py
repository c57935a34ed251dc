"""What `push` and `pull` share: the hub's client writes nothing of its own to stderr, unless that is a terminal."""

import logging
import sys


def quiet() -> None:
    """Keep the logs of orbax, and where stderr is a file also the bars of the hub's client, off stderr."""
    from huggingface_hub.utils import disable_progress_bars

    logging.getLogger("absl").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
