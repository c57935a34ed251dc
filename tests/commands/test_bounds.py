"""Numbers that are too large, in every key and every option: refused by a stated bound before memory is asked for."""

import importlib
import inspect
import time
import typing

import pytest
from helpers.errors import fails_with, has_fact, refused
from typer.models import OptionInfo

from demega_jax.cli import COMMANDS, MODULES
from demega_jax.config import Config, ModelConfig
from demega_jax.config.load import flat_keys, override
from demega_jax.files import parse_bytes
from demega_jax.training.optimizer import run_length

HUGE = 10**12 + 1
CHECKED_IN_THE_COMMAND = ("tmin", "tmax", "runs")  # by its seconds, and by the minutes that there are


def numeric(annotation: object) -> list[type]:
    """The types of numbers within a type."""
    if annotation in (int, float):
        return [annotation]
    return [kind for part in typing.get_args(annotation) for kind in numeric(part)]


NUMBERS = {key: numeric(field.annotation) for key, field in flat_keys().items()}


@pytest.mark.parametrize("key", [key for key, kinds in NUMBERS.items() if kinds])
def test_every_number_of_the_configuration_has_a_bound(key):
    value: float = HUGE if int in NUMBERS[key] else 1e300
    with refused(key) as caught:
        override(Config(), {key: [value, value] if key.endswith(("_ms", "_sizes")) else value}, "command line")
    assert has_fact(str(caught.value), "at most") or has_fact(str(caught.value), "below"), caught.value


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_a_command_has_a_bound(name):
    module = importlib.import_module(f"demega_jax.commands.{MODULES.get(name, name.replace('-', '_'))}")
    hints = {n: h for n, h in inspect.signature(module.command).parameters.items() if n != "ctx"}
    for parameter, hint in hints.items():
        kind, *extras = typing.get_args(hint.annotation) or (hint.annotation,)
        if numeric(kind) and parameter not in CHECKED_IN_THE_COMMAND:
            assert any(isinstance(one, OptionInfo) and one.max is not None for one in extras), parameter


@pytest.mark.parametrize(
    "line",
    [
        "simulate {out} --level 5 --groups 8 --sensors {n}",
        "simulate {out} --level 5 --groups 8 --seed {n}",
        "simulate {out} --level {long} --groups 8",
        "simulate {out} --level 1-{long} --groups 8",
        "simulate {out} --level 5 --groups {long}",
        "simulate {out} --recordings --minutes 1e12",
        "simulate {out} --recordings --minutes nan",
        "simulate {out} --recordings --minutes 3 --runs {n}",
        "simulate {out} --level 2 --groups 99999999 --sensors 4096 --time-points 4096",
        "group {data} {out} --level 5 --tmax 1e300",
        "group {data} {out} --level 5 --tmin nan",
        "group {data} {out} --level 5 --memory {long}T",
        "group {data} {out} --level 5 --split-shares inf,1,1",
        "shard {data} {out} --shard-size {n}T",
        "shard {data} {out} --seed -1",
        "train configs/tiny.yaml --data {data} --devices {n}",
        "train configs/tiny.yaml --data {data} --devices 3000",
        "train configs/tiny.yaml --data {data} model.width={n}",
        "train configs/tiny.yaml --data {data} train.seed={long}",
        "sweep configs/tiny.yaml --data {data} --seeds {n}",
        "sweep configs/tiny.yaml --data {data} --cells 1/{long}",
        "benchmark --devices {n}",
        "benchmark --batch-size {n}",
        "submit --check f --rows {n}",
    ],
)
def test_a_command_refuses_it_at_once_and_writes_nothing(tmp_path, data, capsys, line):
    began = time.perf_counter()
    words = line.format(out=tmp_path / "out", data=data, n=HUGE, long="9" * 5000).split()
    assert len(fails_with(capsys, words)) < 500
    assert not (tmp_path / "out").exists() and time.perf_counter() - began < 5


def test_a_model_is_measured_by_all_its_keys_together():
    """Each of them is below its own bound."""
    for changes in (
        dict(width=16_384, layers=63),
        dict(width=8192, feedforward_factor=1000),
        dict(encoder="lstm", width=16_000),
        dict(kernel_size=60_000, width=16_384),
        dict(num_buckets=0, max_distance=65_000, width=16_384),
    ):
        with refused("model.width", "1,000,000,000 parameters"):
            ModelConfig(**changes)
    with refused("model.width", "model.embedding_width"):
        ModelConfig(width=4096, embedding_width=4096).for_data(sensors=4, time_points=1000, classes=("a", "b"))
    assert ModelConfig(width=1024, layers=24, embedding_width=1024).width == 1024


def test_a_length_in_epochs_is_measured_in_steps():
    config = override(Config(), {"train.epochs": 2**22}, "test")
    assert run_length(config, 500) == 500 * 2**22
    for changes in ({"train.epochs": 2**22}, {"optim.schedule": "per_epoch", "optim.schedule_length": 2**22}):
        (key,) = [key for key in changes if key != "optim.schedule"]
        with refused("steps", where=key):
            run_length(override(Config(), changes, "test"), 512)


def test_sizes_in_bytes():
    assert parse_bytes("1024T") == 2**50
    for text in ("1025T", "9" * 400, "9" * 400 + "T"):
        with pytest.raises(ValueError, match="more than 1024"):
            parse_bytes(text)
