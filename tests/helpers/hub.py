"""The hub of the tests of `download`: what it holds, and the command against it."""

import io
from pathlib import Path

import h5py
import numpy as np

from helpers import GOLDEN
from helpers.errors import fails_with
from helpers.hub_server import commit_name
from helpers.runs import files_in, run_command

SPLITS = ("train", "validation", "test")
TRAIN_10 = "data/grouped_10/train_grouped.h5"
OLD, NEW = commit_name(1), commit_name(2)
PROCESSING = "proc-bads+headpos+sss+notch+bp+ds_meg.h5"


def grouped_files() -> dict[str, bytes]:
    """Levels 5 and 10 as the original library wrote them, by their path in the dataset."""
    names = [f"grouped_{level}/{split}_grouped.h5" for level in (5, 10) for split in SPLITS]
    return {f"data/{name}": (GOLDEN / name).read_bytes() for name in names} | {"README.md": b"# A dataset\n"}


def recording(session: str, task: str, run: str, samples: int = 800) -> dict[str, bytes]:
    """A recording of three sensors and its events, by their paths in the dataset."""
    stem = f"sub-0_ses-{session}_task-{task}_run-{run}"
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["data"] = np.random.default_rng(samples).normal(0, 1e-12, (3, samples)).astype(np.float32)
        file["times"] = np.arange(samples) / 250
        file.attrs["sample_frequency"] = 250.0
    events = "kind\tsegment\ttimemeg\nphoneme\taa_B\t0.5\nword\tah\t0.5\nphoneme\tt_E\t0.7\n"
    return {
        f"{task}/derivatives/serialised/{stem}_{PROCESSING}": buffer.getvalue(),
        f"{task}/derivatives/events/{stem}_events.tsv": events.encode(),
    }


RUNS = (("1", "Sherlock1", "1"), ("2", "Sherlock1", "1"), ("11", "Sherlock1", "2"), ("12", "Sherlock1", "2"))


def recording_files() -> dict[str, bytes]:
    return {path: content for i, run in enumerate(RUNS) for path, content in recording(*run, 800 + i).items()}


def download(*arguments: object) -> int:
    """The exit status of `demega-jax download`."""
    return run_command("download", *arguments)


def fails(capsys, arguments: list, *facts: object) -> str:
    """The one line, with these facts, of a download that stops with exit status 2."""
    return fails_with(capsys, ["download", *arguments], *facts)


def contents(out: Path) -> dict[str, bytes]:
    """All files below a folder but its record."""
    return {name: content for name, content in files_in(out).items() if Path(name).name != "download.json"}
