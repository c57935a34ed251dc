"""The devices that jax finds, how exactly they multiply, and the self-test on each of them."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from demega_jax.benchmark.doctor import self_test
from demega_jax.benchmark.doctor.finding import Finding
from demega_jax.benchmark.doctor.system import Places, gpus
from demega_jax.benchmark.doctor.watch import answer
from demega_jax.files import format_bytes

KERNELS_ON = ("gpu", "tpu")  # platforms for which model.attention=fused has kernels
SIDE = 256  # of the matrices whose product is compared
# Largest relative error of a product in float32 with precision `highest`: float32 keeps 24 bits, 6e-8, of each number.
EXACT = 1e-5
PRECISIONS = ("default", "highest")  # of train.matmul_precision


def check_devices(places: Places, *, cuda: bool, asked: bool) -> Iterator[Finding]:
    """What jax computes with. RuntimeError: JAX_PLATFORMS names a platform that cannot be used. NoAnswer: jax still
    looks for devices.

    cuda: whether jax's support for NVIDIA GPUs is installed.  asked: whether JAX_PLATFORMS says what to use.
    """
    devices = answer("devices", "the devices of this machine", jax.local_devices)
    kinds = dict.fromkeys((device.platform, device.device_kind) for device in devices)
    for platform, kind in kinds:
        same = [device for device in devices if (device.platform, device.device_kind) == (platform, kind)]
        stats = same[0].memory_stats() or {}
        memory = f", {format_bytes(stats['bytes_limit'])} of memory each" if "bytes_limit" in stats else ""
        name = kind if kind.lower() != platform else ""
        yield Finding("devices", "ok", f"{len(same)} x {platform}{f' ({name})' if name else ''}{memory}")
    if devices[0].platform == "cpu" and cuda and gpus(places) and not asked:
        found = f"jax cannot use the GPU of this machine ({_why_no_gpu()})"
        way_out = "See whether `nvidia-smi` shows the GPU; if it does, install a newer driver or 'jax[cuda12]'."
        yield Finding("devices", "broken", found, way_out)


def _why_no_gpu() -> str:
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        return " ".join(str(error).split())[:200]
    return "it says no reason"


def check_precision(device: jax.Device) -> Iterator[Finding]:
    """How exact matrix products are, by the settings of train.matmul_precision. NoAnswer: the device hangs."""

    def products() -> dict[str, float]:
        return {name: product_error(device, name) for name in PRECISIONS}

    errors = answer("precision", f"a product on {_name(device)}", products)
    shown = ", ".join(f"{error:.0e} with {name}" for name, error in errors.items())
    line = f"a product in float32 is off by {shown} (train.matmul_precision)"
    if not errors["highest"] <= EXACT:
        way_out = "Do not train on this device: its driver, or XLA_FLAGS, let it compute wrongly."
        yield Finding("precision", "broken", f"{line}; at most {EXACT:.0e} is right", way_out)
    else:
        yield Finding("precision", "ok", line)


def product_error(device: jax.Device, precision: str) -> float:
    """The largest error of a matrix product on a device, divided by its largest element; in float64 it is known."""
    draw = np.random.RandomState(0)
    a, b = (draw.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(2))
    right = a.astype(np.float64) @ b.astype(np.float64)
    how = None if precision == "default" else precision
    found = jax.jit(lambda a, b: jnp.matmul(a, b, precision=how))(*jax.device_put((a, b), device))
    return float(np.abs(np.asarray(found, np.float64) - right).max() / np.abs(right).max())


def check_training(devices: Sequence[jax.Device]) -> Iterator[Finding]:
    """The self-test on each device alone, and on all of them together. NoAnswer: one of them hangs."""
    groups = {f"{_name(device)} alone" if len(devices) > 1 else _name(device): [device] for device in devices}
    if len(devices) > 1:
        groups[f"{len(devices)} devices together"] = list(devices)
    for name, group in groups.items():
        yield _tested(name, group)


def check_kernels(devices: Sequence[jax.Device]) -> Iterator[Finding]:
    """The self-test by the kernels of model.attention=fused, on the first device, if it is of a kind that they are for.
    NoAnswer: it hangs."""
    device = devices[0]
    if device.platform not in KERNELS_ON:
        return
    way_out = "Leave model.attention at plain, which needs no kernels, and report the card and its driver."
    try:
        result = answer("kernels", _name(device), lambda: self_test.run([device], self_test.config("fused")))
    except (RuntimeError, ValueError) as error:
        came = " ".join(str(error).split())[:200]
        yield Finding("kernels", "warning", f"{_name(device)}: training steps by kernels failed ({came})", way_out)
        return
    line = f"{_name(device)}: model.attention=fused is off by {result.difference:.0e} of {result.tolerance:.0e}"
    yield Finding("kernels", "ok", line) if result.passed else Finding("kernels", "warning", line, way_out)


def _name(device: jax.Device) -> str:
    return f"{device.platform}:{device.id}"


def _tested(name: str, devices: list[jax.Device]) -> Finding:
    way_out = "Do not train on it: install another driver or jax, or leave it out with CUDA_VISIBLE_DEVICES."
    if len(devices) > 1:
        way_out = "Train on fewer of them (--devices), and install another driver or jax."
    try:
        result = answer("self-test", name, lambda: self_test.run(devices))
    except jax.errors.JaxRuntimeError as error:
        came = " ".join(str(error).split())[:200]
        return Finding("self-test", "broken", f"{name}: the training steps failed ({came})", way_out)
    losses = " ".join(f"{loss:.5f}" for loss in result.losses)
    line = f"{name}: losses {losses}, off by {result.difference:.0e} of {result.tolerance:.0e} that rounding may cause"
    return Finding("self-test", "ok", line) if result.passed else Finding("self-test", "broken", line, way_out)
