"""Recordings whose means show which windows they are of: window i is 1 in sensor i alone."""

from pathlib import Path

import h5py
import numpy as np

from demega_jax.config import DataConfig, RegroupConfig
from demega_jax.data.recordings.runs import find_recordings
from demega_jax.data.recordings.splits import official
from demega_jax.data.recordings.statistics import Statistics
from demega_jax.data.recordings.tree import RecordingTree, open_recordings
from helpers import GOLDEN
from helpers.runs import run_command

GOLDEN_TREE = GOLDEN / "raw_libribrain"  # six short session runs
GOLDEN_STATISTICS = GOLDEN / "raw_libribrain_stats.npz"
CLASSES = ("aa", "ae", "b", "zh")
COUNTS = (70, 23, 24, 3)  # windows of each class in train
TIME_POINTS = 2
RATE, SECONDS = 1000, 8
WORDS = ["the", "Dog", "the", "cat", "the", "dog", "dog", "cat", "bird", "the"]


def write_session(root: Path, session: int, x: np.ndarray, events: list[tuple[float, str]]) -> None:
    """A session run of x [C, samples] at 250 Hz with phonemes at these seconds."""
    name = f"sub-0_ses-{session}_task-Sherlock1_run-2"
    for folder in ("serialised", "events"):
        (root / f"Sherlock1/derivatives/{folder}").mkdir(parents=True, exist_ok=True)
    with h5py.File(root / f"Sherlock1/derivatives/serialised/{name}_proc-x_meg.h5", "w") as file:
        file["data"], file.attrs["sample_frequency"] = x, 250.0
    lines = ["kind\tsegment\ttimemeg", *(f"phoneme\t{symbol}_B\t{onset}" for onset, symbol in events)]
    (root / f"Sherlock1/derivatives/events/{name}_events.tsv").write_text("\n".join(lines) + "\n")


def write_marked(root: Path) -> Path:
    """Two session runs of train and one of validation; windows lie between noise that no mean may show.

    labels.npy beside them holds the class of every window of train.
    """
    rng = np.random.default_rng(0)
    symbols = rng.permutation(np.repeat(CLASSES, COUNTS))
    n = len(symbols)
    for session, mine in ((1, range(n // 3)), (2, range(n // 3, n)), (11, range(20))):
        x, events = np.full((n, 3 * len(mine) + 4), 9.0, np.float32), []
        for place, number in enumerate(mine):
            x[:, 3 * place + 1 : 3 * place + 3] = np.eye(n, dtype=np.float32)[:, [number]]
            events.append(((3 * place + 1.5) / 250, symbols[number]))
        write_session(root, session, x, events)
    np.save(root / "labels.npy", [CLASSES.index(s) for s in symbols])
    return root


def recorded(root: Path, level=5, **regroup) -> RecordingTree:
    """Marked recordings as training reads them, with statistics that change no value."""
    config = DataConfig(level=level, feed="regroup", regroup=RegroupConfig(tmax=TIME_POINTS / 250, **regroup))
    sensors = sum(COUNTS)
    unit = Statistics(np.zeros(sensors), np.ones(sensors))
    return RecordingTree(root, official(find_recordings(root)), lambda: unit, config)


def recorded_tree(root: Path, level=5, **regroup) -> RecordingTree:
    """Any recording tree as training reads it."""
    return open_recordings(root, DataConfig(level=level, feed="regroup", regroup=RegroupConfig(**regroup)))


def group(*arguments: object) -> int:
    """The exit status of `demega-jax group`."""
    return run_command("group", *arguments)


def write_words_of(
    root: Path, run: int, rate: int = RATE, names=("a", "b"), head="kind\tsegment\ttimemeg\tword"
) -> None:
    """A session run of two sensors: a slow and a fast oscillation; a word every half second, in two columns."""
    name = f"sub-0_ses-1_task-Own_run-{run}"
    for kind in ("serialised", "events"):
        (root / "Own" / "derivatives" / kind).mkdir(parents=True, exist_ok=True)
    t = np.arange(SECONDS * rate) / rate
    x = np.stack([np.sin(2 * np.pi * 5 * t), np.sin(2 * np.pi * 5 * t) + np.sin(2 * np.pi * 200 * t)])
    with h5py.File(root / f"Own/derivatives/serialised/{name}_proc-none_meg.h5", "w") as file:
        file["data"] = x.astype(np.float32)
        file.attrs.update(sample_frequency=float(rate), sensor_names=list(names), sensor_types=["mag", "grad"])
    rows = [f"word\tx{i}\t{1 + i / 2}\t{word}" for i, word in enumerate(WORDS)] + ["phoneme\tah_B\t1.0\tn/a"]
    (root / f"Own/derivatives/events/{name}_events.tsv").write_text("\n".join([head, *rows]) + "\n")


def write_words(root: Path) -> Path:
    """A tree of three session runs of words."""
    for run in (1, 2, 3):
        write_words_of(root, run)
    return root
