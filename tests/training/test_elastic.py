"""A training run goes on with any number of devices: 8, then 5, 3 and 8 again, to the numbers of 8 throughout."""

from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_MODEL
from helpers.arrays import INERT
from helpers.data import simulate_grouped
from helpers.errors import the_warning
from helpers.runs import lines_of, newest_arrays, run_command, train

KEYS = [
    *TINY_MODEL,
    "model.dropout=0.5",
    "train.batch_size=16",
    "train.epochs=null",
    "optim.schedule_length=12",
    "train.save_every=3",
    "train.eval_every=3",
    "train.log_every=1",
    "train.averaging=ema",
]
MEANS = ("loss", "class_loss", "contrastive_loss", "ipa_loss", "grad_norm", "learning_rate", "macro_f1")
PARTS = ((8, 3), (5, 6), (3, 9), (8, 12))  # devices, and the step at which they stop


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Grouped files whose rows do not fill the last batch, neither of training nor of validation."""
    folder = tmp_path_factory.mktemp("elastic")
    simulate_grouped(folder, levels=[100], groups=72, sensors=5, time_points=9, seed=1)
    return folder


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("model.encoder=lstm",), marks=pytest.mark.slow(seconds=30)),
        pytest.param((), marks=pytest.mark.long),
        pytest.param(("data.feed=resident",), marks=pytest.mark.long),
        pytest.param(("data.feed=resident", "train.members=2", "train.steps_per_dispatch=3"), marks=pytest.mark.long),
        pytest.param(("train.accumulate=2", "--parallel", "pmap"), marks=pytest.mark.long),
    ],
    ids=["stream, LSTM", "stream", "resident", "members", "pmap and microbatches"],
)
def test_any_number_of_devices_gives_the_numbers_of_eight(keys, data, tmp_path, capsys):
    mode = [word for word in keys if not word.count("=")]
    keys = [word for word in keys if word.count("=")]
    assert train(data, tmp_path / "whole", *KEYS, *keys, *mode, "train.steps=12", devices=8) == 0
    run = tmp_path / "run"
    for devices, last in PARTS:
        capsys.readouterr()
        if last == 3:
            assert train(data, run, *KEYS, *keys, *mode, "train.steps=3", devices=devices) == 0
        else:
            again = ("train", "--resume", "--run", run, "--devices", devices, f"train.steps={last}", *mode)
            assert run_command(*again) == 0
        warned = [line for line in capsys.readouterr().err.splitlines() if "padding" in line]
        if devices == 8:
            assert not warned
        else:
            the_warning(warned, "16 rows", f"{devices} devices")
    members = ("members/0", "members/1") if "train.members=2" in keys else ("",)
    for member in members:
        assert_near(run / member, tmp_path / "whole" / member, 3 if "train.steps_per_dispatch=3" in keys else 1)


def assert_near(run: Path, whole: Path, each: int) -> None:
    """The same lines of the log, without a gap, with the same numbers beyond rounding; and the same parameters.

    each: steps of a dispatch, which a line is of.
    """
    ours, theirs = lines_of(run), lines_of(whole)
    assert [(line["step"], line["split"]) for line in ours] == [(line["step"], line["split"]) for line in theirs]
    assert [line["step"] for line in ours if line["split"] == "train"] == list(range(each, 13, each))
    for line, want in zip(ours, theirs, strict=True):
        for name in MEANS:
            if name in want:
                np.testing.assert_allclose(line[name], want[name], rtol=5e-5, atol=1e-7, err_msg=f"{name} {want}")
    arrays, other = newest_arrays(run), newest_arrays(whole)
    for name, array in arrays.items():
        if name.startswith("params.") and not name.endswith(INERT):
            np.testing.assert_allclose(array, other[name], rtol=2e-4, atol=2e-5, err_msg=name)
