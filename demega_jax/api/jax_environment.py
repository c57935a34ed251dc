"""The environment variables of jax: what it cannot use is named, and none of them changes the numbers of a run."""

import importlib.util
import os
import pkgutil
import re
from importlib.metadata import entry_points

from demega_jax.errors import UserError, did_you_mean, shortened

GPUS = ("cuda", "gpu", "rocm")
BUILT_IN = ("cpu", "tpu", *GPUS)
UNKNOWN = re.compile(r"JAX flag (\w+)|environment '(\w+)'")  # what jax says of a variable that it cannot read
NO_BACKEND = re.compile(r"Unable to initialize backend '(\w+)': (.*)", re.DOTALL)
# What decides numbers, beside the configuration: random bits, and the type of numbers that name none.
PINNED = {"jax_enable_x64": False, "jax_threefry_partitionable": True, "jax_numpy_rank_promotion": "allow"}


def check_platforms() -> None:
    """UserError, before jax is imported: JAX_PLATFORMS names what there is not, or what is not installed."""
    there = plugins()
    for name in filter(None, os.environ.get("JAX_PLATFORMS", "").split(",")):
        known = (*BUILT_IN, *(plugin for plugin in there if plugin not in BUILT_IN))
        if name not in known:
            way_out = did_you_mean(name, known, "unset JAX_PLATFORMS, and jax chooses")
            raise UserError("JAX_PLATFORMS", shortened(repr(name)), f"one of {', '.join(known)}", way_out)
        here = any(kind in plugin for plugin in there for kind in (name, "cuda", "rocm") if name in GPUS)
        here |= name == "tpu" and has_libtpu()
        if name in ("tpu", *GPUS) and not here:
            package = "jax[tpu]" if name == "tpu" else "jax[cuda13]"
            came, wanted = f"{name}, and jax has no support for it here", "a platform that is installed"
            way_out = f"install it with `pip install '{package}'`, or set JAX_PLATFORMS=cpu"
            raise UserError("JAX_PLATFORMS", came, wanted, way_out)


def plugins() -> list[str]:
    """The names of the packages that bring other platforms to jax."""
    names = [point.name for point in entry_points(group="jax_plugins")]
    spaces = importlib.util.find_spec("jax_plugins")
    found = pkgutil.iter_modules(spaces.submodule_search_locations or []) if spaces is not None else ()
    return [*names, *(module.name for module in found)]


def has_libtpu() -> bool:
    """Whether jax can find the library for TPUs."""
    return importlib.util.find_spec("libtpu") is not None or "TPU_LIBRARY_PATH" in os.environ


def import_jax() -> None:
    """Import jax. UserError: it cannot read one of its environment variables, or computes nothing by one of them."""
    check_platforms()
    try:
        import jax
    except ValueError as error:
        found = UNKNOWN.search(str(error))
        if found is None:
            raise
        name = (found[1] or found[2]).upper()
        came = shortened(repr(os.environ.get(name, "")))
        wanted, way_out = "a value that jax knows for it", f"correct or unset the environment variable {name}"
        raise UserError(name, came, wanted, way_out) from None
    if jax.config.jax_disable_jit:
        came, wanted = "it is set, and programs are compiled before they are run", "compiled programs"
        raise UserError("JAX_DISABLE_JIT", came, wanted, "unset the environment variable JAX_DISABLE_JIT")


def pin() -> None:
    """Settle what environment variables of jax would change in the numbers of a run."""
    import jax

    for key, value in PINNED.items():
        jax.config.update(key, value)


def without_device(error: RuntimeError) -> UserError | None:
    """The error for a platform that is installed, but has no device that can be used; None: it is another error."""
    found = NO_BACKEND.match(str(error))
    if found is None:
        return None
    reason = shortened(" ".join(found[2].partition(" (set JAX_PLATFORMS")[0].split()), 150)
    came, wanted = f"{found[1]} cannot be used here ({reason})", f"a device of {found[1]} and its driver"
    return UserError("JAX_PLATFORMS", came, wanted, "check the driver, or set JAX_PLATFORMS=cpu")
