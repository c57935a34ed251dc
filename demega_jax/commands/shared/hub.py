"""What `push` and `pull` share: the hub's client writes nothing of its own to stderr, unless that is a terminal."""

import sys


def quiet() -> None:
    """Keep what orbax logs, and where stderr is a file also the bars of the hub's client, off stderr.

    UserError: an environment variable of the hub's client cannot be used, such as the address of a proxy.
    """
    from demega_jax.data.hub.environment import check_cache, check_environment

    check_environment()
    check_cache()
    from huggingface_hub.utils import disable_progress_bars

    from demega_jax.training.quiet import quiet_failed_saves

    quiet_failed_saves()
    if not sys.stderr.isatty():
        disable_progress_bars()
