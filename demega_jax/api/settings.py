"""What a function changes in its process, and puts back: settings of jax, its environment, loggers and warnings."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from demega_jax.api.jax_environment import PINNED, import_jax, pin
from demega_jax.errors import warn

if TYPE_CHECKING:
    from demega_jax.config import Config

DETERMINISTIC = "--xla_gpu_deterministic_ops"
PRECISION, PROGRAMS = "jax_default_matmul_precision", "jax_compilation_cache_dir"


def set_xla(flag: str, value: object) -> None:
    """Set a flag of XLA, unless the environment sets it already."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}={value}".strip()


def apply_settings(config: "Config", *, remember: bool) -> None:
    """Set what decides numbers, and the folder of compiled programs, in jax, which is imported already.

    remember: whether compiled programs are kept on disk for later. JAX_COMPILATION_CACHE_DIR says in which folder
    (empty: none), and if it is set it decides without remember too.
    """
    import jax

    from demega_jax.training.program_cache import keep_programs

    pin()
    if config.train.matmul_precision != "default":
        jax.config.update(PRECISION, config.train.matmul_precision)
    if remember:
        keep_programs()
    else:
        jax.config.update(PROGRAMS, os.environ.get("JAX_COMPILATION_CACHE_DIR") or None)


@contextmanager
def settings_of(config: "Config", *, remember: bool = True) -> Iterator[None]:
    """Within this block jax computes as a configuration says, and libraries are quiet; afterwards all is as before.

    remember: as in `apply_settings`.  UserError: jax cannot read its environment.
    """
    flags, imported = os.environ.get("XLA_FLAGS"), "jax" in sys.modules
    if config.train.deterministic:
        set_xla(DETERMINISTIC, "true")
    import_jax()
    import jax

    from demega_jax.training.quiet import quiet_orbax

    if (
        config.train.deterministic
        and imported
        and DETERMINISTIC not in (flags or "")
        and jax.default_backend() != "cpu"
    ):
        warn(f"train.deterministic: jax was imported before; set XLA_FLAGS={DETERMINISTIC}=true before you import it")
    before = {key: getattr(jax.config, key) for key in (*PINNED, PRECISION, PROGRAMS)}
    try:
        with warnings.catch_warnings(), quiet_orbax():
            apply_settings(config, remember=remember)
            yield
    finally:
        _put_back(before, flags)


def _put_back(before: dict[str, object], flags: str | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if getattr(jax.config, PROGRAMS) != before[PROGRAMS]:
        compilation_cache.reset_cache()  # jax looks at its folder once only
    for key, value in before.items():
        if getattr(jax.config, key) != value:
            jax.config.update(key, value)
    if flags is None:
        os.environ.pop("XLA_FLAGS", None)
    else:
        os.environ["XLA_FLAGS"] = flags
