"""Environment variables of jax: one line that names the variable, and numbers that never depend on them."""

import os
import subprocess

import pytest
from command_line import SMALL
from helpers import ROOT
from helpers.errors import assert_facts, refused
from helpers.runs import losses, process, train_arguments

from demega_jax.api import jax_environment
from demega_jax.api.jax_environment import check_platforms, without_device


def lines_of(words: list[str], **more: str) -> tuple[int, list[str]]:
    """(exit status, lines on stderr without warnings) of a process with more variables."""
    done = subprocess.run(process(*words), env=os.environ | more, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]


@pytest.mark.parametrize(
    ("name", "value", "facts"),
    [
        ("JAX_PLATFORMS", "cuda", ("cuda", "jax[cuda13]", "JAX_PLATFORMS=cpu")),
        ("JAX_PLATFORMS", "tpu,cpu", ("tpu", "jax[tpu]")),
        ("JAX_PLATFORMS", "cpuu", ("cpuu", "did you mean cpu")),
        ("JAX_PLATFORMS", "metal", ("metal", "unset JAX_PLATFORMS")),
    ],
)
def test_platforms_that_are_not_here(monkeypatch, name, value, facts):
    monkeypatch.setattr(jax_environment, "plugins", list)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setenv(name, value)
    with refused(*facts, where=name):
        check_platforms()


def test_platforms_that_are_here(monkeypatch):
    monkeypatch.setattr(jax_environment, "plugins", lambda: ["xla_cuda13", "metal"])
    for value in ("", "cpu", "cuda,cpu", "gpu", "metal"):
        monkeypatch.setenv("JAX_PLATFORMS", value)
        check_platforms()


def test_a_driver_without_a_device():
    text = "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices. (set JAX_PLATFORMS='' to"
    error = without_device(RuntimeError(text))
    assert error is not None
    assert_facts(str(error), "cuda cannot be used here", "No visible GPU devices", "JAX_PLATFORMS=cpu")
    assert without_device(RuntimeError("anything else")) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_DEFAULT_PRNG_IMPL", "foo"),
        ("JAX_ENABLE_X64", "maybe"),
        ("JAX_PLATFORMS", "cpuu"),
        ("JAX_DISABLE_JIT", "1"),
    ],
)
def test_one_line_and_no_run_folder(data, tmp_path, name, value):
    status, lines = lines_of(train_arguments(data, tmp_path / "run", *SMALL), **{name: value})
    assert status == 2 and len(lines) == 1 and lines[0].startswith(f"error: {name}: "), lines
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_they_never_change_the_numbers_of_a_run(data, run, tmp_path):
    """Dropout and augmentation draw random numbers in every step."""
    more = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_ENABLE_X64": "1", "JAX_THREEFRY_PARTITIONABLE": "0"}
    more |= {"JAX_NUMPY_RANK_PROMOTION": "raise"}
    keys = [
        *SMALL,
        "train.steps=3",
        "train.eval_every=3",
        "train.log_every=1",
        "model.dropout=0.3",
        "data.augment.time_mask=0.9",
        "data.augment.noise=0.5",
    ]
    found = []
    for name, env in (("one", {}), ("two", more)):
        status, lines = lines_of(train_arguments(data, tmp_path / name, *keys), **env)
        assert status == 0, lines
        found.append(losses(tmp_path / name))
    assert len(found[0]) == 3 and found[0] == found[1]
