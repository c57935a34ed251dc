"""Versions, the platforms that jax can use, and environment variables. jax itself is not imported here."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires, version

from demega_jax import __version__
from demega_jax.benchmark.doctor.finding import Finding
from demega_jax.benchmark.doctor.system import Places, driver, gpus, tpus

SHOWN = ("jax", "jaxlib", "flax", "orbax-checkpoint", "h5py", "numpy")
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)$")  # those without an extra, as pyproject.toml writes them
CUDA_13_DRIVER = 580  # of NVIDIA's drivers, the first that CUDA 13 works with
PLUGIN = re.compile(r"jax-cuda\d*-(plugin|pjrt)")
# Variables that change what jax or HDF5 do, and that are easily forgotten in a shell's start file.
VARIABLES = (
    "JAX_PLATFORMS",
    "JAX_NUM_CPU_DEVICES",
    "XLA_FLAGS",
    "NPROC",
    "CUDA_VISIBLE_DEVICES",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "HDF5_USE_FILE_LOCKING",
    "HDF5_PLUGIN_PATH",
)


def check_versions() -> Iterator[Finding]:
    """Python and the packages; those that are missing, too old, or of another version than they must be."""
    there = {name: found for name in SHOWN if (found := _version(name))}
    shown = ", ".join(f"{name} {found}" for name, found in there.items())
    yield Finding("versions", "ok", f"demega-jax {__version__}, Python {platform.python_version()}, {shown}")
    for name, least in _required():
        found = _version(name)
        if found is None or _numbers(found) < _numbers(least):
            came = f"{name} {found or 'is not installed'}"
            yield Finding("versions", "broken", f"{came}; {least} or newer is needed", f"Run `pip install -U {name}`.")
    yield from _plugin_versions(there.get("jaxlib", ""))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required() -> list[tuple[str, str]]:
    """(package, oldest version) of what demega-jax needs; nothing where it is used without being installed."""
    try:
        found = [REQUIREMENT.match(line) for line in requires("demega-jax") or ()]
    except PackageNotFoundError:
        return []
    return [(match[1], match[2]) for match in found if match is not None]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def _plugin_versions(jaxlib: str) -> Iterator[Finding]:
    """jax leaves a plugin for GPUs out that is not of the version of jaxlib, and trains on the CPU."""
    for found in distributions():
        name, at = found.metadata["Name"] or "", found.version
        if PLUGIN.fullmatch(name) and _numbers(at) != _numbers(jaxlib):
            came = f"{name} {at} beside jaxlib {jaxlib}: jax does not use it"
            yield Finding("versions", "broken", came, f"Run `pip install '{name}=={jaxlib}'`.")


def check_accelerators(places: Places, plugins: list[str], libtpu: bool) -> Iterator[Finding]:
    """A GPU or a TPU that is in the machine, and that jax cannot use as it is installed.

    plugins: the names of the packages that bring platforms to jax.  libtpu: whether that of TPUs is installed.
    """
    cuda, only = any("cuda" in name for name in plugins), os.environ.get("JAX_PLATFORMS")
    if gpus(places):
        at = driver(places)
        old = at is not None and int(at.partition(".")[0]) < CUDA_13_DRIVER
        package = "jax[cuda12]" if old else "jax[cuda13]"
        if at is None:
            found, way_out = "an NVIDIA GPU is in the machine, and its driver is not loaded", "Install NVIDIA's driver."
            yield Finding("GPU", "warning", found, way_out)
        elif not cuda:
            found = f"an NVIDIA GPU with driver {at} is in the machine, and jax has no support for it"
            yield Finding("GPU", "warning", found, f"Run `pip install -U '{package}'`.")
        elif only and not set(only.split(",")) & {"cuda", "gpu"}:
            found = f"an NVIDIA GPU is in the machine, and JAX_PLATFORMS={only} leaves it out"
            yield Finding("GPU", "warning", found, "Unset JAX_PLATFORMS, or set JAX_PLATFORMS=cuda.")
    if tpus(places) and not libtpu:
        found = "a TPU is in the machine, and jax has no support for it"
        yield Finding("TPU", "warning", found, "Run `pip install -U 'jax[tpu]'`.")


def check_variables() -> Iterator[Finding]:
    """Environment variables that change what jax or HDF5 do."""
    for name in VARIABLES:
        if name in os.environ:
            yield Finding("variable", "note", f"{name}={os.environ[name]}")
