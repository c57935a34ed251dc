"""What reads each kind of folder, and everything that numbers depend on in it, as digests."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

Digests = dict[str, object]


def digest(*arrays: object) -> str:
    """The SHA-256 of types, shapes and bytes."""
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def of_arrays(arrays: dict) -> str:
    return hashlib.sha256("".join(f"{name}{digest(a)}" for name, a in sorted(arrays.items())).encode()).hexdigest()


def run_model(path: Path) -> Digests:
    """What prediction reads of a run folder."""
    from demega_jax.training.stored import read_run

    stored = read_run(path)
    meta = stored.metas[0]
    return {
        "model": (int(meta["step"]), of_arrays(stored.arrays[0])),
        "config": stored.config.model_dump_json(),
        "counts": str(meta["class_counts"]),
    }


def run_training(path: Path) -> Digests:
    """What resuming reads of a run folder, checked as `restore` checks it."""
    from demega_jax.training.checkpoint import Checkpoints
    from demega_jax.training.meta import check_config
    from demega_jax.training.run import RunFolder
    from demega_jax.training.writers import check_log, read_metrics

    folder = RunFolder(path)
    config = folder.read_config()
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        found = checkpoints.read_newest("latest", ("model", "training"))
    if found is None:
        return {"state": "no checkpoint: training starts again, with a warning"}
    arrays, meta = found
    check_config(config, meta, folder)
    check_log(folder.metrics, meta["step"], meta.get("log"))
    lines = read_metrics(folder.metrics) if folder.metrics.exists() else []
    log = [line for line in lines if line["step"] <= meta["step"]]
    kept = {name: value for name, value in meta.items() if name not in ("versions",)}
    return {
        "state": (int(meta["step"]), of_arrays(arrays), json.dumps(kept, sort_keys=True)),
        "config": config.model_dump_json(),
        "log": json.dumps(log) if log else "gone",
    }


def split_facts(split) -> tuple:
    return (split.rows, split.window, split.classes, split.level, split.reference_macro_f1, split.simulated)


def grouped(path: Path) -> Digests:
    """Every row, label and fact of the grouped files of a folder, read in two ways."""
    from demega_jax.data.open import open_levels

    found: Digests = {}
    for name in ("train", "validation", "test"):
        split = open_levels(path, 5, name)
        rows = split.reader().read(np.arange(split.rows))
        found[name] = (digest(rows, split.labels), str(split_facts(split)))
    return found


def recordings(path: Path) -> Digests:
    """The groups of every split that are made of a recording tree."""
    from demega_jax.config import DataConfig, RegroupConfig
    from demega_jax.data.recordings.tree import open_recordings

    tree = open_recordings(path, DataConfig(level=5, feed="regroup", regroup=RegroupConfig()))
    found: Digests = {}
    for name in ("train", "validation", "test"):
        windows = tree.windows(name, None)
        found[name] = digest(
            windows.label, windows.start, windows.run, *(str(each.name) for each in windows.recordings)
        )
        found[f"samples of {name}"] = digest(*(samples(each) for each in windows.recordings))
    statistics = tree.statistics()
    return found | {"statistics": digest(statistics.mean, statistics.std)}


def samples(recording) -> np.ndarray:
    return recording.read()


READERS: dict[str, Callable[[Path], Digests]] = {
    "run, for prediction": run_model,
    "run, for training": run_training,
    "grouped files": grouped,
    "shards": grouped,
    "recordings": recordings,
}
