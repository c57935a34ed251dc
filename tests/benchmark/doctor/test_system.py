"""What the system tells of itself, read from files as Linux writes them, and what jax lacks for it."""

import os
import resource

import pytest
from helpers.errors import assert_facts

from demega_jax.benchmark.doctor import software, system
from demega_jax.benchmark.doctor.software import check_accelerators
from demega_jax.benchmark.doctor.system import Places, check_cores, check_limits, check_memory

GIB = 2**20  # KiB
DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\nGCC version: 12\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Nov 5 23:43:12 UTC 2024\nGCC version: 12.3.0\n"


@pytest.fixture
def places(tmp_path, monkeypatch) -> Places:
    """A system without a control group and without an accelerator, with 8 cores and 16 GiB of memory."""
    found = Places(*(tmp_path / name for name in ("proc", "cgroup", "pci", "dev")))
    write(found.proc / "meminfo", f"MemTotal:       {16 * GIB} kB\nMemAvailable:   {12 * GIB} kB\nCached: 1 kB\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(system, "_allowed_cores", lambda: 8)
    for name in ("NPROC", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    return found


def write(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def only(found):
    (finding,) = found
    return finding


def test_all_cores(places, monkeypatch):
    found = only(check_cores(places))
    assert found.grade == "ok"
    assert_facts(found.found, "8 cores", "8 threads")
    monkeypatch.setenv("NPROC", "32")
    assert_facts(only(check_cores(places)).found, "32 threads")


def test_fewer_cores_than_the_machine_has(places, monkeypatch):
    monkeypatch.setattr(system, "_allowed_cores", lambda: 2)
    found = only(check_cores(places))
    assert found.grade == "note"
    assert_facts(found.found, "2 cores", "the machine has 8")


@pytest.mark.parametrize(
    "files",
    [
        {"cgroup/job/inner/cpu.max": "150000 100000\n", "cgroup/job/cpu.max": "max 100000\n"},
        {"cgroup/job/inner/cpu.max": "max 100000\n", "cgroup/job/cpu.max": "150000 100000\n"},
        {"cgroup/cpu/cpu.cfs_quota_us": "150000\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_less_time_than_cores(places, tmp_path, files):
    """Of the own control group, of the one that holds it, and of version 1."""
    for name, text in files.items():
        write(tmp_path / name, text)
    write(places.proc / "self" / "cgroup", "4:memory:/elsewhere\n0::/job/inner\n")
    found = only(check_cores(places))
    assert found.grade == "warning"
    assert_facts(found.found + found.way_out, "1.5 of them", "NPROC=2")


def test_no_quota(places):
    write(places.cgroup / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(places.cgroup / "cpu" / "cpu.cfs_period_us", "100000\n")
    write(places.cgroup / "cpu.max", "max 100000\n")
    assert only(check_cores(places)).grade == "ok"


@pytest.mark.parametrize(
    ("limit", "used", "free", "grade", "facts"),
    [
        (None, 0, 12 * GIB, "ok", ("12.00 GiB", "16.00 GiB")),
        (None, 0, GIB // 2, "warning", ("512.0 MiB",)),
        (4 * GIB * 1024, GIB * 1024, 12 * GIB, "note", ("3.00 GiB", "4.00 GiB", "16.00 GiB")),
        (4 * GIB * 1024, 4 * GIB * 1024, 12 * GIB, "warning", ("0 B", "4.00 GiB")),
        (2**63 - 4096, 0, 12 * GIB, "ok", ("12.00 GiB", "16.00 GiB")),  # version 1 says so where there is no limit
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_memory(places, version, limit, used, free, grade, facts):
    write(places.proc / "meminfo", f"MemTotal: {16 * GIB} kB\nMemAvailable: {free} kB\n")
    write(places.proc / "self" / "cgroup", "4:memory:/job\n0::/job\n")
    if limit is not None and version == 1:
        write(places.cgroup / "memory" / "job" / "memory.limit_in_bytes", f"{limit}\n")
        write(places.cgroup / "memory" / "job" / "memory.usage_in_bytes", f"{used}\n")
    elif limit is not None:
        write(places.cgroup / "job" / "memory.max", f"{limit}\n")
        write(places.cgroup / "job" / "memory.current", f"{used}\n")
    found = only(check_memory(places))
    assert found.grade == grade, found
    assert_facts(found.found, *facts)


def test_limits(monkeypatch):
    most = {resource.RLIMIT_AS: 2**33, resource.RLIMIT_FSIZE: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda number: (most[number], most[number]))
    assert_facts(only(check_limits()).found, "8.00 GiB", "ulimit -v")


def test_a_gpu_without_support_in_jax(places):
    """The driver says which of the two packages can work with it."""
    assert list(check_accelerators(places, [], False)) == []
    write(places.dev / "nvidia0", "")
    assert_facts(only(check_accelerators(places, [], False)).found, "driver is not loaded")
    for text, version, package in ((DRIVER, "580.65.06", "jax[cuda13]"), (CLOSED, "550.54.15", "jax[cuda12]")):
        write(places.proc / "driver" / "nvidia" / "version", text.format(version))
        found = only(check_accelerators(places, [], False))
        assert found.grade == "warning"
        assert_facts(found.found + found.way_out, version, package)
        assert list(check_accelerators(places, ["xla_cuda13"], False)) == []


def test_a_gpu_that_a_variable_leaves_out(places, monkeypatch):
    write(places.dev / "nvidia0", "")
    write(places.proc / "driver" / "nvidia" / "version", DRIVER.format("580.65.06"))
    for platforms, count in (("cpu", 1), ("cuda,cpu", 0), ("gpu", 0)):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert len(list(check_accelerators(places, ["xla_cuda13"], False))) == count


@pytest.mark.parametrize(
    ("vendor", "device", "kind", "names"),
    [
        ("0x1ae0", "0x0063", "0x120000", ["TPU"]),
        ("0x1ae0", "0x0042", "0x020000", []),  # a network card of Google
        ("0x10de", "0x2330", "0x030200", ["GPU"]),
        ("0x10de", "0x22a3", "0x068000", []),  # a bridge of NVIDIA
    ],
)
def test_cards_on_the_bus(places, vendor, device, kind, names):
    for name, text in {"vendor": vendor, "device": device, "class": kind}.items():
        write(places.pci / "0000:00:04.0" / name, f"{text}\n")
    assert [finding.name for finding in check_accelerators(places, [], False)] == names
    assert [finding.name for finding in check_accelerators(places, [], True)] == [n for n in names if n != "TPU"]


def test_versions(monkeypatch):
    """A package that is too old or missing, and a plugin of another version than jaxlib."""
    there = {"jax": "0.12.0.1", "jaxlib": "0.12.0.1", "numpy": "1.26.4", "demega-jax": "0.1.0"}
    asked = ["jax>=0.10", "numpy>=2.0", "scipy>=1.14", 'mne>=1.8; extra == "topo"']
    monkeypatch.setattr(software, "_version", there.get)
    monkeypatch.setattr(software, "requires", lambda name: asked)
    plugins = [("jax-cuda13-plugin", "0.10.2"), ("jax_cuda13_pjrt", "0.12.0.1"), ("other", "1")]

    class Installed:
        def __init__(self, name, version):
            self.metadata, self.version = {"Name": name}, version

    monkeypatch.setattr(software, "distributions", lambda: [Installed(*each) for each in plugins])
    first, *others = software.check_versions()
    assert first.grade == "ok"
    assert_facts(first.found, "jax 0.12.0.1", "numpy 1.26.4")
    assert [one.grade for one in others] == ["broken"] * 3
    for one, facts in zip(others, (("numpy 1.26.4", "2.0"), ("scipy",), ("jax-cuda13-plugin 0.10.2",)), strict=True):
        assert_facts(one.found, *facts)
    assert "jax-cuda13-plugin==0.12.0.1" in others[2].way_out


def test_variables(monkeypatch):
    for name in software.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    assert only(software.check_variables()).found == "HDF5_USE_FILE_LOCKING=FALSE"
