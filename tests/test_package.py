"""The package as it is installed: what importing it costs, and that its metadata and lock file agree."""

import re
import subprocess
import sys
import tomllib

import pytest
from helpers import ROOT

import demega_jax
from demega_jax.cli import COMMANDS

HEAVY = {"flax", "grain", "h5py", "huggingface_hub", "jax", "jaxlib", "matplotlib", "numpy", "optax", "orbax", "torch"}
# name==version, with at most a marker for the Pythons that the version is for: no paths, addresses or options.
LOCK_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!+_]*( ; python_version [<>=]+ \"3\.\d+\")?")


def name_of(requirement: str) -> str:
    """The normalised name (PEP 503) that a requirement or a line of the lock file begins with."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lock() -> list[str]:
    return (ROOT / "requirements.lock").read_text().splitlines()


@pytest.mark.parametrize(
    "code",
    [
        "import demega_jax",
        "import demega_jax; dir(demega_jax); demega_jax.UserError",
        "from demega_jax.cli import build_app; assert build_app().info.name == 'demega-jax'",
        "from demega_jax.cli import main; assert main(['--help']) == 0",
        *(f"from demega_jax.cli import main; assert main(['{name}', '--help']) == 0" for name in COMMANDS),
        "from demega_jax.cli import main; assert main(['tran']) == main(['train', 'nosuch.yaml']) == 2",
        "from demega_jax.cli import main; assert main(['train', 'configs/tiny.yaml', 'trian.epochs=2']) == 2",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code):
    report = (
        "\nimport sys, time\nprint(f'{time.perf_counter() - start:.3f} s', file=sys.stderr)"
        "\nprint('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", "import time; start = time.perf_counter()\n" + code + report],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    print(code.partition("\n")[0], run.stderr.strip())
    loaded = run.stdout.splitlines()[-1].split()
    assert loaded[0] == "LOADED" and "demega_jax" in loaded
    assert not HEAVY & set(loaded)


def test_exported_names_are_found_where_they_are_said_to_be():
    for name in demega_jax.__all__:
        assert getattr(demega_jax, name) is not None, name
    assert set(demega_jax.__all__) <= set(dir(demega_jax))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = demega_jax.Nothing


def test_version_and_entry_point(project):
    assert demega_jax.__version__ == project["version"]
    assert project["name"] == "demega-jax" and project["scripts"] == {"demega-jax": "demega_jax.cli:main"}
    run = subprocess.run([sys.executable, "-m", "demega_jax", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stdout) == (0, f"demega-jax {project['version']}\n"), run.stderr


def test_every_package_of_the_tree_is_installed():
    files = [path.parent for path in (ROOT / "demega_jax").rglob("*.py") if path.name != "__init__.py"]
    assert not [str(folder) for folder in files if not (folder / "__init__.py").exists()]


def test_lock_lines_are_exact_versions(lock):
    assert not [line for line in lock if not LOCK_LINE.fullmatch(line)]
    assert lock == sorted(lock, key=lambda line: line.partition("==")[0].lower())
    assert len(set(map(name_of, lock))) == len(lock)


def test_lock_holds_every_direct_dependency_at_a_version_that_is_asked_for(project, lock):
    locked = {name_of(line): tuple(map(int, re.findall(r"\d+", line.partition("==")[2])[:2])) for line in lock}
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name, lowest = re.split(r">=", requirement)
        assert name_of(name) in locked, f"requirements.lock lacks {name}; run: make lock"
        assert locked[name_of(name)] >= tuple(map(int, lowest.split(".")[:2])), requirement


def test_lock_is_for_machines_without_an_accelerator(lock):
    assert not [line for line in lock if re.match(r"(nvidia|torch|triton|jax-cuda|libtpu)", line)]


def test_extras_are_those_that_are_promised(project):
    assert set(project["optional-dependencies"]) == {"cuda", "tpu", "torch", "tensorboard", "wandb", "dev"}
