"""The package as it is installed: what importing it costs, and that its metadata, lock files and Makefile agree."""

import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata

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


LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


@pytest.fixture(scope="module", params=LOCKS, ids=lambda path: path.name)
def lock(request) -> list[str]:
    """The lines of a lock file, for each in turn."""
    return request.param.read_text().splitlines()


def version_of(lock: list[str], package: str) -> tuple[int, ...]:
    """The first two numbers of the version that a lock file gives for a package."""
    (line,) = [line for line in lock if name_of(line) == package]
    return tuple(map(int, re.findall(r"\d+", line.partition("==")[2])[:2]))


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
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    print(code.partition("\n")[0], run.stderr.strip())
    loaded = run.stdout.splitlines()[-1].split()
    assert loaded[0] == "LOADED" and "demega_jax" in loaded
    assert not HEAVY & set(loaded)


def test_exported_names_are_found_where_they_are_said_to_be():
    for name in demega_jax.__all__:
        assert getattr(demega_jax, name) is not None, name
    assert set(demega_jax.__all__) <= set(dir(demega_jax))
    page = (ROOT / "docs" / "reference.md").read_text()
    functions = [each for each in map(demega_jax.__getattr__, demega_jax._EXPORTS) if inspect.isfunction(each)]
    assert len(functions) > 8
    assert not [each for each in functions if f"::: {each.__module__}.{each.__name__}\n" not in page]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = demega_jax.Nothing


def test_version_and_entry_point(project):
    assert demega_jax.__version__ == project["version"]
    assert project["name"] == "demega-jax" and project["scripts"] == {"demega-jax": "demega_jax.__main__:start"}
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
    names = set(map(name_of, lock))
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name, lowest = re.split(r">=", requirement)
        assert name_of(name) in names, f"a lock file lacks {name}; run: make lock"
        assert version_of(lock, name_of(name)) >= tuple(map(int, lowest.split(".")[:2])), requirement


def test_each_supported_python_has_a_lock_and_a_classifier(project):
    """Makefile, lock files and classifiers name the same Pythons; the oldest is the one that is required."""
    found = re.search(r"^VERSIONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    versions = found.group(1).split()
    assert versions == sorted(versions, key=lambda version: int(version.partition(".")[2]), reverse=True)
    assert {path.name for path in LOCKS} == {f"python{version}.lock" for version in versions}
    classified = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert classified == versions[::-1]
    assert project["requires-python"] == f">={versions[-1]}"


def test_locks_hold_the_jax_that_is_meant_for_their_python():
    """The newest jax needs Python 3.12."""
    jax = {path.name: version_of(path.read_text().splitlines(), "jax") for path in LOCKS}
    assert jax["python3.11.lock"] == (0, 10)
    assert jax["python3.12.lock"] == jax["python3.13.lock"] >= (0, 12)


def test_lock_is_for_machines_without_an_accelerator(lock):
    assert not [line for line in lock if re.match(r"(nvidia|torch|triton|jax-cuda|libtpu)", line)]


def test_extras_are_those_that_are_promised(project):
    extras = project["optional-dependencies"]
    expected = "aot bids cuda cuda12 cuda13 dev docs mne sklearn tensorboard topo torch tpu wandb"
    assert set(extras) == set(expected.split())
    assert extras["cuda"] == extras["cuda13"]


def test_jax_has_the_extras_that_ours_ask_for(project):
    ours = "\n".join(line for lines in project["optional-dependencies"].values() for line in lines)
    asked = set(re.findall(r"jax\[([a-z0-9]+)\]", ours))
    assert asked == {"cuda12", "cuda13", "tpu"}
    assert asked <= set(metadata("jax").get_all("Provides-Extra") or [])
