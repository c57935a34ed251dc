"""Inspection of run folders: how far training came, its best score, and whether its checkpoints can be read."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.data.inspect.report import Report
from demega_jax.errors import UserError, warn
from demega_jax.files import visible
from demega_jax.model.parameters import TABLE, Arrays
from demega_jax.names import Monitor
from demega_jax.training.checkpoint import MODEL_FIELDS, Checkpoints, Damaged, Kind, check_arrays, unflatten
from demega_jax.training.members import check_members, read_log
from demega_jax.training.meta import Meta, check_config
from demega_jax.training.monitor import best_validation
from demega_jax.training.quiet import quiet_failed_saves
from demega_jax.training.run import RunFolder
from demega_jax.training.state import abstract

TRIES = 5  # times that the checkpoints of a living training run are listed
ITEMS: dict[Kind, tuple[str, ...]] = {"latest": ("model", "training"), "best": ("model",)}


@dataclasses.dataclass(frozen=True)
class CheckpointFacts:
    """A checkpoint. state: "whole" where every checksum agrees, else what is wrong."""

    kind: str
    step: int
    state: str
    values: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """The facts of a run folder.

    step: the last one that was logged or saved.  planned: the last one of the training run.  monitor: the score of
    validation that chooses the best one.  best, best_step: the best score.  last: that of the last validation.
    skipped: training lines without a finite loss.  parameters: of the model.
    """

    step: int
    planned: int | None
    epoch: float | None
    validations: int
    monitor: Monitor
    best: float | None
    best_step: int | None
    last: float | None
    train_loss: float | None
    skipped: int
    window: tuple[int | None, int | None]
    classes: int | None
    level: Any
    data: str | None
    parameters: int | None
    versions: dict[str, str]
    checkpoints: tuple[CheckpointFacts, ...]


def inspect_run(path: Path) -> list[Report]:
    """The report of a run folder; where it has members, a report for each."""
    quiet_failed_saves()
    if members := sorted(visible(path / "members", "*/config.yaml"), key=lambda file: file.parent.name.zfill(9)):
        reports = [found for member in members for found in inspect_run(member.parent)]
        with reports[0].going_on():
            _check_whole(RunFolder(path))
        return reports
    report = Report(path, "run")
    with report.watch():
        folder = RunFolder(path)
        config = folder.read_config()
        checkpoints, meta, parameters = _checkpoints(report, folder, config)
        lines: list[dict[str, Any]] = []
        if folder.metrics.is_file():
            with report.going_on():
                lines = read_log(folder)
        else:
            warn("no metrics.jsonl: the training run has logged nothing, or the file is gone")
        report.facts = facts = _facts(config, lines, checkpoints, meta, parameters)
        kept = [checkpoint.step for checkpoint in checkpoints if checkpoint.kind == "best"]
        if kept and facts.best_step is not None and facts.best_step not in kept:
            warn(f"the best validation in the log is at step {facts.best_step}, but the best checkpoint at {kept[-1]}")
    return [report]


def _check_whole(folder: RunFolder) -> None:
    """UserError: a member of a training run is missing, or has another configuration."""
    config = folder.read_config()
    check_members(config, folder)
    for member in folder.members(config):
        if not member.config.is_file():
            came, way_out = "no config.yaml", "put back this folder; --resume makes its config.yaml anew"
            raise UserError(member.path, came, f"one of {config.train.members} members", way_out)


def _facts(
    config: Config,
    lines: Sequence[dict[str, Any]],
    checkpoints: tuple[CheckpointFacts, ...],
    meta: dict[str, Any],
    parameters: int | None,
) -> RunFacts:
    train, monitor = [line for line in lines if line.get("split") == "train"], config.train.monitor
    scored = [line for line in lines if line.get("split") == "validation" and line.get(monitor) is not None]
    best = best_validation(monitor, scored) or {}
    classes = config.model.classes
    return RunFacts(
        step=max([line["step"] for line in lines] + [checkpoint.step for checkpoint in checkpoints], default=0),
        planned=config.train.steps,
        epoch=max((line["epoch"] for line in lines if "epoch" in line), default=None),
        validations=len(scored),
        monitor=monitor,
        best=best.get(monitor),
        best_step=best.get("step"),
        last=scored[-1][monitor] if scored else None,
        train_loss=train[-1].get("loss") if train else None,
        skipped=sum(line.get("loss") is None for line in train),
        window=(config.model.sensors, config.model.time_points),
        classes=None if classes is None else len(classes),
        level=config.data.level,
        data=config.data.path,
        parameters=parameters,
        versions=dict(meta.get("versions", {})),
        checkpoints=checkpoints,
    )


def _checkpoints(
    report: Report, folder: RunFolder, config: Config
) -> tuple[tuple[CheckpointFacts, ...], dict[str, Any], int | None]:
    """Every checkpoint, read and verified; the meta of the last that can be read; the number of its parameters."""
    found: list[CheckpointFacts] = []
    meta: dict[str, Any] = {}
    parameters = None
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        for kind in ITEMS:
            there: list[CheckpointFacts] = []
            tries = 0
            # A living training run may remove, and replace, all that were listed before they are read.
            while not there and tries < TRIES and (steps := checkpoints.steps(kind)):
                tries += 1
                for step in steps:
                    facts, whole = _checkpoint(report, checkpoints, kind, step)
                    there += [facts] if facts is not None else []
                    if whole is not None:
                        arrays, meta = whole
                        parameters = sum(array.size for name, array in arrays.items() if name.startswith("params."))
                        with report.going_on():
                            check_config(config, meta, folder)
                            _check_model(config, arrays, folder.checkpoints / kind / str(step))
            found += there
            if not there:
                warn(f"no checkpoint of the {kind} {'step' if kind == 'latest' else 'validation'}")
    return tuple(found), meta, parameters


def _checkpoint(
    report: Report, checkpoints: Checkpoints, kind: Kind, step: int
) -> tuple[CheckpointFacts | None, tuple[Arrays, Meta] | None]:
    """The facts of a checkpoint, None if it has been removed; and its arrays and meta, None if it is not whole."""
    place = checkpoints.folder / kind / str(step)
    nbytes = _size_of(place)
    try:
        arrays, meta = checkpoints.read(kind, step, ITEMS[kind])
    except Damaged as damage:
        if checkpoints.is_being_removed(kind, step):
            return None, None
        way_out = "remove it; --resume then continues from another"
        report.problems.append(UserError(place, f"damaged ({damage})", "a checkpoint that can be read", way_out))
        return CheckpointFacts(kind, step, f"damaged: {damage}", 0, nbytes), None
    except UserError as error:  # of a newer format
        report.problems.append(error)
        return CheckpointFacts(kind, step, error.came, 0, nbytes), None
    return CheckpointFacts(kind, step, "whole", sum(a.size for a in arrays.values()), nbytes), (arrays, meta)


def _check_model(config: Config, arrays: Arrays, place: Path) -> None:
    """UserError: a checkpoint holds other arrays than the model of the configuration has."""
    _, params, buffers = abstract(config.model, arrays.get(TABLE))
    shapes = {"params": params, "buffers": buffers}
    if config.train.averaging != "none":
        shapes["average"] = params
    model = {name: array for name, array in arrays.items() if name.partition(".")[0] in MODEL_FIELDS}
    check_arrays(shapes, model, place)
    unflatten(shapes, model, place)


def _size_of(place: Path) -> int:
    """The bytes of the files in a folder. A living training run may remove some of them meanwhile."""
    nbytes = 0
    for file in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            nbytes += file.stat().st_size if file.is_file() else 0
    return nbytes
