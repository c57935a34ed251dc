"""Inspection of run folders: how far a run came, its best score, and whether its checkpoints are whole."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.data.inspect.report import Report
from demega_jax.errors import UserError, warn
from demega_jax.training.checkpoint import Checkpoints, Damaged, Kind
from demega_jax.training.run import RunFolder
from demega_jax.training.writers import read_metrics

ITEMS: dict[Kind, tuple[str, ...]] = {"latest": ("model", "training"), "best": ("model",)}


@dataclasses.dataclass(frozen=True)
class CheckpointFacts:
    """A checkpoint; state: "whole" (every checksum agrees), or what is wrong."""

    kind: str
    step: int
    state: str
    values: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A run folder. step: of the last line of the log.  planned: where the run ends.  parameters: of the model.

    skipped: logged training steps whose loss was not finite.  best, best_step: highest macro-F1 of validation.
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
    """The report of a run folder, and those of its members."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax says much that is no news
    if members := sorted((path / "members").glob("*/config.yaml"), key=lambda file: file.parent.name.zfill(9)):
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
            warn("no metrics.jsonl: the run has logged nothing")
        report.facts = facts = _facts(config, lines, checkpoints, meta, parameters)
        kept = [checkpoint.step for checkpoint in checkpoints if checkpoint.kind == "best"]
        if kept and facts.best_step is not None and facts.best_step not in kept:
            warn(f"the best validation in the log is that of step {facts.best_step}, the best checkpoint of {kept[-1]}")
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
    # The first of equals, as in training.
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
    """Every checkpoint, read and verified; the meta of one that is whole; how many parameters its model has."""
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
                report.problems.append(
                    UserError(place, f"damaged ({damage})", "a whole checkpoint", "remove it, or go on from another")
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
