"""Inspection of run folders: how far training came, its best score, and whether its checkpoints can be read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.data.inspect.report import Report
from demega_jax.errors import UserError, warn
from demega_jax.files import visible
from demega_jax.training.checkpoint import Checkpoints, Damaged, Kind, quiet_failed_saves
from demega_jax.training.run import RunFolder
from demega_jax.training.writers import read_metrics

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

    step: the last one that was logged or saved.  planned: the last one of the training run.  best, best_step: highest
    macro-F1 of validation.  last: macro-F1 of the last validation.  skipped: training lines without a finite loss.
    parameters: of the model.
    """

    step: int
    planned: int | None
    epoch: float | None
    validations: int
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
        return [found for member in members for found in inspect_run(member.parent)]
    report = Report(path, "run")
    with report.watch():
        folder = RunFolder(path)
        config = folder.read_config()
        checkpoints, meta, parameters = _checkpoints(report, folder)
        lines: list[dict[str, Any]] = []
        if folder.metrics.is_file():
            lines = read_metrics(folder.metrics)
        else:
            warn("no metrics.jsonl: the training run has logged nothing")
        report.facts = facts = _facts(config, lines, checkpoints, meta, parameters)
        kept = [checkpoint.step for checkpoint in checkpoints if checkpoint.kind == "best"]
        if kept and facts.best_step is not None and facts.best_step not in kept:
            warn(f"the best validation in the log is at step {facts.best_step}, but the best checkpoint at {kept[-1]}")
    return [report]


def _facts(
    config: Config,
    lines: Sequence[dict[str, Any]],
    checkpoints: tuple[CheckpointFacts, ...],
    meta: dict[str, Any],
    parameters: int | None,
) -> RunFacts:
    train = [line for line in lines if line.get("split") == "train"]
    scored = [line for line in lines if line.get("split") == "validation" and line.get("macro_f1") is not None]
    # Of equal validations the first counts, as in training.
    best = max(scored, key=lambda line: line["macro_f1"], default={})
    classes = config.model.classes
    return RunFacts(
        step=max([line["step"] for line in lines] + [checkpoint.step for checkpoint in checkpoints], default=0),
        planned=config.train.steps, epoch=max((line["epoch"] for line in lines if "epoch" in line), default=None),
        validations=len(scored), best=best.get("macro_f1"), best_step=best.get("step"),
        last=scored[-1]["macro_f1"] if scored else None, train_loss=train[-1].get("loss") if train else None,
        skipped=sum(line.get("loss") is None for line in train),
        window=(config.model.sensors, config.model.time_points),
        classes=None if classes is None else len(classes), level=config.data.level, data=config.data.path,
        parameters=parameters, versions=dict(meta.get("versions", {})), checkpoints=checkpoints,
    )  # fmt: skip


def _checkpoints(report: Report, folder: RunFolder) -> tuple[tuple[CheckpointFacts, ...], dict[str, Any], int | None]:
    """Every checkpoint, read and verified; the meta of the last that can be read; the number of its parameters."""
    found: list[CheckpointFacts] = []
    meta: dict[str, Any] = {}
    parameters = None
    checkpoints = Checkpoints(folder.checkpoints)
    for kind, items in ITEMS.items():
        for step in checkpoints.steps(kind):
            place = folder.checkpoints / kind / str(step)
            nbytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            try:
                arrays, meta = checkpoints.read(kind, step, items)
            except Damaged as damage:
                way_out = "remove it; --resume then continues from another"
                report.problems.append(
                    UserError(place, f"damaged ({damage})", "a checkpoint that can be read", way_out)
                )
                found.append(CheckpointFacts(kind, step, f"damaged: {damage}", 0, nbytes))
                continue
            except UserError as error:  # of a newer format
                report.problems.append(error)
                found.append(CheckpointFacts(kind, step, error.came, 0, nbytes))
                continue
            parameters = sum(array.size for name, array in arrays.items() if name.startswith("params."))
            found.append(CheckpointFacts(kind, step, "whole", sum(a.size for a in arrays.values()), nbytes))
    checkpoints.close()
    for kind in ITEMS:
        if not any(checkpoint.kind == kind for checkpoint in found):
            warn(f"no checkpoint of the {kind} {'step' if kind == 'latest' else 'validation'}")
    return tuple(found), meta, parameters
