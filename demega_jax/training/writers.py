"""Where the numbers of a run go: metrics.jsonl always, TensorBoard and Weights & Biases on request."""

import importlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from demega_jax.errors import UserError, warn
from demega_jax.files import atomic_write

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
WANDB_ID_FILE = "wandb_id.txt"

Split = Literal["train", "validation"]
Values = Mapping[str, float | int | None]


class Writer(Protocol):
    """What takes the values of a step of a split."""

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None: ...

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in order. A torn last line (of a run that was killed, or is writing) is left out.

    UserError: the file is not there.
    """
    if not path.is_file():
        raise UserError(path, "there is no such file", "the metrics.jsonl of a run", "name a run folder that has one")
    return [line for _, line in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each readable line as it stands (without its end) and parsed. Unreadable ones before the last are counted."""
    raws = path.read_bytes().split(b"\n")
    if raws[-1] == b"":
        raws.pop()
    unreadable = 0
    for number, raw in enumerate(raws, 1):
        try:
            line = json.loads(raw)
            step = line["step"]
        except (ValueError, TypeError, KeyError):  # no JSON, no UTF-8; no mapping; no step
            step = None
        if isinstance(step, int):
            yield raw, line
        elif number < len(raws):
            unreadable += 1
    if unreadable:
        warn(f"{path}: left out {unreadable} unreadable lines of {len(raws)}")


def truncate_after(path: Path, step: int) -> None:
    """Cut a metrics.jsonl back to its lines up to `step`, byte for byte; the file is replaced in one go.

    A torn last line goes. A file that is not there stays so.
    """
    if not path.exists():
        return
    kept = b"".join(raw + b"\n" for raw, line in _lines(path) if line["step"] <= step)
    with atomic_write(path) as aside, aside.open("wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())


class MetricsWriter:
    """Appends lines {"step", "epoch", "split", ...} to a metrics.jsonl, each flushed as it is written."""

    def __init__(self, path: Path):
        self._file = path.open("a", encoding="utf-8")

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        line = {"step": step, "epoch": epoch, "split": split, **{name: _number(v) for name, v in values.items()}}
        # allow_nan=False: a line is JSON for every reader, or an error here.
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoardWriter:
    """Scalars `train/loss`, `validation/macro_f1` .. as event files. Values that are not finite are left out.

    resume_step: the step that a resumed run goes on from; TensorBoard then discards what came after it.
    """

    def __init__(self, folder: Path, *, resume_step: int | None):
        purge = None if resume_step is None else resume_step + 1
        # tensorboardX names files by the second: a run resumed within it would overwrite what it had written.
        suffix = f".{time.time_ns()}"
        summary_writer = _extra("tensorboardX", "tensorboard").SummaryWriter
        self._writer = summary_writer(str(folder), purge_step=purge, filename_suffix=suffix)

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        for name, value in {"epoch": epoch, **_finite(values)}.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class WandbWriter:
    """Logs `train/loss`, `validation/macro_f1` .. over `step` to the W&B project demega-jax.

    The id of the W&B run is kept in the run folder, so that a resumed run goes on in it. W&B never forgets a value:
    what was logged after the restored step stays beside what replaces it (metrics.jsonl is the record).
    UserError: W&B refuses to start, for instance without a login.
    """

    def __init__(self, run: Path, *, config: Mapping[str, Any], resume: bool):
        wandb = _extra("wandb", "wandb")
        id_file = run / WANDB_ID_FILE
        known = id_file.read_text().strip() if resume and id_file.exists() else None
        try:
            # console off: W&B would otherwise record every redraw of the progress bar.
            self._run = wandb.init(
                project="demega-jax", name=run.name, dir=str(run), config=dict(config), id=known,
                resume="allow" if known else None, settings={"console": "off"},
            )  # fmt: skip
        except wandb.Error as error:
            raise UserError(
                "report.wandb", f"W&B did not start ({error})", "a W&B account or offline mode",
                "run `wandb login`, set WANDB_MODE=offline, or report.wandb=false",
            ) from error  # fmt: skip
        id_file.write_text(f"{self._run.id}\n")
        # W&B's own step may only grow, which a resumed run does not keep to; ours is the axis instead.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        named = {f"{split}/{name}": value for name, value in _finite(values).items()}
        self._run.log({"step": step, "epoch": epoch, **named})

    def close(self) -> None:
        self._run.finish()


@dataclass(frozen=True)
class Writers:
    """All writers of a run, as one."""

    writers: tuple[Writer, ...]

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        """Write the values (numbers on the host; None and non-finite ones mean: no value) of a step of a split."""
        for writer in self.writers:
            writer.write(split, step, epoch, values)

    def close(self) -> None:
        """Flush and close everything, also when one of them fails."""
        self._close(self.writers)

    def _close(self, writers: tuple[Writer, ...]) -> None:
        if writers:
            try:
                writers[0].close()
            finally:
                self._close(writers[1:])


def open_writers(
    run: Path, *, tensorboard: bool, wandb: bool, config: Mapping[str, Any], resume_step: int | None
) -> Writers:
    """The writers of a run folder; it must exist. One process of a run has them.

    resume_step: the step a resumed run was restored at, to which metrics.jsonl is cut back; None for a new run.
    UserError: a package is missing, W&B refuses, or a new run would add to the metrics of another.
    """
    path = run / METRICS_FILE
    if resume_step is None and path.exists() and path.stat().st_size:
        raise UserError(path, "has lines of an earlier run", "a new run folder", "go on with --resume, or change --run")
    # What can be refused comes first: nothing is cut back for a run that does not start.
    if tensorboard:
        _extra("tensorboardX", "tensorboard")
    writers: list[Writer] = []
    if wandb:
        writers.append(WandbWriter(run, config=config, resume=resume_step is not None))
    if tensorboard:
        writers.append(TensorBoardWriter(run / TENSORBOARD_FOLDER, resume_step=resume_step))
    if resume_step is not None:
        truncate_after(path, resume_step)
    return Writers((MetricsWriter(path), *writers))


def _extra(package: str, extra: Literal["tensorboard", "wandb"]) -> Any:
    """The module of an optional dependency."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(
            f"report.{extra}", f"the package {package} is not installed", f"it, when report.{extra} is true",
            f"run pip install 'demega-jax[{extra}]', or set report.{extra}=false",
        ) from error  # fmt: skip


def _number(value: float | int | None) -> float | int | None:
    """The value as JSON can hold it: None where it is not finite."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _finite(values: Values) -> dict[str, float | int]:
    numbers = {name: _number(value) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if number is not None}
