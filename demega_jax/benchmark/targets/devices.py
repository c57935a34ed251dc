"""The devices that programs can be compiled for without having them.

Peaks are the makers': data sheets of NVIDIA H200, H100 SXM and A100 80 GB, NVIDIA's white paper on the Ada
architecture (GeForce RTX 4090 and 4080, without sparsity, sums in float32), and the documentation of Cloud TPU v5e and
v6e. The other facts of a GPU are those of the CUDA C++ Programming Guide, "Compute Capabilities".
"""

import dataclasses
import os
from typing import Any, Literal

import jax

from demega_jax.errors import UserError

# Shares of the peaks that we take large kernels to reach: an assumption, not measured here.
BANDWIDTH_SHARE, FLOPS_SHARE = 0.83, 0.71
LAUNCH_SECONDS = 3e-6  # a kernel of a GPU that follows another, however small


@dataclasses.dataclass(frozen=True)
class Target:
    """A device that is not here.

    memory: bytes.  bandwidth: bytes/s of its memory, peak.  flops: FLOP/s of bfloat16 products, peak.  link: bytes/s to
    other devices, one way.
    """

    name: str
    title: str
    platform: Literal["cuda", "tpu"]
    memory: int
    bandwidth: float
    flops: float
    link: float

    @property
    def usable_bandwidth(self) -> float:
        """Bytes/s that a large kernel reaches."""
        return self.bandwidth * BANDWIDTH_SHARE

    @property
    def usable_flops(self) -> float:
        """FLOP/s that a large product reaches."""
        return self.flops * FLOPS_SHARE

    @property
    def launch_seconds(self) -> float:
        """The shortest time of a kernel. A TPU runs its program without starting kernels one by one."""
        return LAUNCH_SECONDS if self.platform == "cuda" else 0.0

    def padding(self, sensors: int, time_points: int) -> float:
        """How much more memory windows [sensors, time points] take on the device than their numbers do."""
        return 1.0

    def devices(self, count: int) -> list[Any]:
        """So many of these devices, to compile for. UserError: the extra aot is not installed."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Gpu(Target):
    """An NVIDIA GPU.

    capability: compute capability.  cores: streaming multiprocessors.  units: float32 lanes of a core.  threads: of a
    core.  shared, shared_block: bytes of shared memory of a core, and the most of a block.  cache: bytes of the L2
    cache.  clock: GHz, boost.
    """

    capability: tuple[int, int]
    cores: int
    units: int
    threads: int
    shared: int
    shared_block: int
    cache: int
    clock: float

    def devices(self, count: int) -> list[Any]:
        """So many of these devices. UserError: jax has no CUDA plugin."""
        from jax.experimental import topologies

        try:
            found = topologies.get_topology_desc(
                platform="cuda", topology_name="", target_config=self.description(), topology=f"1x1x{count}"
            )
        except RuntimeError as error:
            raise _not_there(self, error) from None
        return list(found.devices)

    def description(self) -> str:
        """The device as XLA's compiler reads it: a GpuTargetConfigProto in text form."""
        major, minor = self.capability
        accelerated = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
        facts = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 48 * 1024,
            "shared_memory_per_core": self.shared,
            "threads_per_core_limit": self.threads,
            "core_count": self.cores,
            "fpus_per_core": self.units,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 65535,
            "block_dim_limit_z": 65535,
            "memory_bandwidth": int(self.bandwidth),
            "l2_cache_size": self.cache,
            "clock_rate_ghz": self.clock,
            "device_memory_size": self.memory,
            "shared_memory_per_block_optin": self.shared_block,
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
            "thread_dim_limit_x": 1024,
            "thread_dim_limit_y": 1024,
            "thread_dim_limit_z": 64,
            "device_address_bits": 64,
        }
        lines = [f"  {name}: {value}" for name, value in facts.items()]
        minor_line = [f"    minor: {minor}"] if minor else []
        capability = ["  cuda_compute_capability {", f"    major: {major}", *minor_line]
        capability += [f"    feature_extension: {accelerated}", "  }"]
        tools = ("runtime_version", "driver_version", "compile_time_toolkit_version")
        versions = [f'  {name}: "12.9.0"' for name in tools]
        title = [f'  name: "{self.title}"', '  device_vendor: "NVIDIA Corporation"', '  dnn_version: "9.10.0"']
        tail = ['platform_name: "CUDA"', "dnn_version_info {", "  major: 9", "  minor: 10", "}"]
        whole = ["gpu_device_info {", *lines, *capability, *versions, *title, "}", *tail]
        return "\n".join([*whole, f'device_description_str: "{self.title}"'])


@dataclasses.dataclass(frozen=True)
class Tpu(Target):
    """A TPU chip. topology: the smallest slice that the compiler knows, which has four of them."""

    topology: str

    def padding(self, sensors: int, time_points: int) -> float:
        """Arrays lie in tiles of 8 x 128 numbers, the last of which are filled up."""
        return (-(-sensors // 8) * 8 / sensors) * (-(-time_points // 128) * 128 / time_points)

    def devices(self, count: int) -> list[Any]:
        """So many of these chips. UserError: libtpu is not installed, or a slice of four chips is too small."""
        from jax.experimental import topologies

        # What libtpu would else ask a machine of the cloud.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        try:
            found = topologies.get_topology_desc(platform="tpu", topology_name=self.topology)
        except RuntimeError as error:
            raise _not_there(self, error) from None
        if count > len(found.devices):
            came, wanted = f"{count} chips of {self.name}", f"at most {len(found.devices)}"
            raise UserError("--devices", came, wanted, f"use --devices {len(found.devices)}")
        return list(found.devices[:count])


def _not_there(target: Target, error: Exception) -> UserError:
    """The error of a compiler that is not installed, or that refuses the target."""
    reason = " ".join(str(error).split())[:120]
    came = f"jax {jax.__version__} cannot compile for {target.title} here ({reason})"
    return UserError("--target", came, "the compilers of the extra aot", "make the environment with `make aot`")


GIB, MIB = 2**30, 2**20
HOPPER: dict[str, Any] = {
    "platform": "cuda",
    "flops": 989e12,
    "link": 450e9,
    "capability": (9, 0),
    "cores": 132,
    "units": 128,
    "threads": 2048,
    "shared": 228 * 1024,
    "shared_block": 227 * 1024,
    "cache": 50 * MIB,
    "clock": 1.98,
}
AMPERE: dict[str, Any] = {
    "platform": "cuda",
    "flops": 312e12,
    "link": 300e9,
    "capability": (8, 0),
    "cores": 108,
    "units": 64,
    "threads": 2048,
    "shared": 164 * 1024,
    "shared_block": 163 * 1024,
    "cache": 40 * MIB,
    "clock": 1.41,
}
ADA: dict[str, Any] = {
    "platform": "cuda",
    "link": 32e9,
    "capability": (8, 9),
    "units": 128,
    "threads": 1536,
    "shared": 100 * 1024,
    "shared_block": 99 * 1024,
}
# FLOPs of Ada's GeForce cards: multiprocessors x boost clock x 512 a cycle (bfloat16 with sums in float32). That is the
# 165 TFLOP/s that NVIDIA states for the RTX 4090 (128 x 2.52 GHz), and 97.5 for the RTX 4080 (76 x 2.505 GHz).
RTX4090: dict[str, Any] = {"bandwidth": 1.008e12, "flops": 165e12, "cores": 128, "cache": 72 * MIB, "clock": 2.52}
RTX4080: dict[str, Any] = {"bandwidth": 717e9, "flops": 97.5e12, "cores": 76, "cache": 64 * MIB, "clock": 2.51}
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Gpu("h200", "NVIDIA H200 141GB HBM3e", memory=141 * GIB, bandwidth=4.8e12, **HOPPER),
        Gpu("h100", "NVIDIA H100 80GB HBM3", memory=79 * GIB, bandwidth=3.35e12, **HOPPER),
        Gpu("a100", "NVIDIA A100-SXM4-80GB", memory=79 * GIB, bandwidth=2.04e12, **AMPERE),
        Gpu("rtx4090", "NVIDIA GeForce RTX 4090 24GB", memory=23 * GIB, **RTX4090, **ADA),
        Gpu("rtx4080", "NVIDIA GeForce RTX 4080 16GB", memory=15 * GIB, **RTX4080, **ADA),
        Tpu("v5e", "TPU v5e", "tpu", 16 * GIB, 0.82e12, 197e12, 200e9, "v5e:2x2"),
        Tpu("v6e", "TPU v6e", "tpu", 32 * GIB, 1.64e12, 918e12, 448e9, "v6e:2x2"),
    )
}
