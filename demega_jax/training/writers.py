"""Writers of metrics: metrics.jsonl always, TensorBoard and Weights & Biases if asked for."""

import importlib
import json
import math
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from demega_jax.errors import UserError, install, shortened, warn
from demega_jax.files import atomic_write, write_text
from demega_jax.reading import parse_json, read_text

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
WANDB_ID_FILE = "wandb_id.txt"
WANDB_ID_BYTES = 1024

Split = Literal["train", "validation"]
Values = Mapping[str, float | int | None]


class Writer(Protocol):
    """Something that writes the values of a step."""

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None: ...

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in order. An incomplete last line is left out: the training run was killed, or is
    writing it. UserError: there is no such file."""
    if not path.is_file():
        raise UserError(path, "no such file", "the metrics.jsonl of a training run", "name a run folder that has one")
    return [line for _, line in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The bytes of each readable line, and its content. Unreadable lines before the last are counted in a warning."""
    raws = path.read_bytes().split(b"\n")
    if raws[-1] == b"":
        raws.pop()
    unreadable = 0
    for number, raw in enumerate(raws, 1):
        try:
            line = parse_json(raw)
            step = line["step"]
        except (ValueError, TypeError, KeyError):  # not JSON or not UTF-8; not a mapping; without a step
            step = None
        if isinstance(step, int):
            yield raw, line
        elif number < len(raws):
            unreadable += 1
    if unreadable:
        warn(f"{path}: {unreadable} of {len(raws)} lines are unreadable and left out")


def log_record(content: bytes = b"") -> dict[str, Any]:
    """What a checkpoint keeps of the lines of its metrics.jsonl, to know them again."""
    return {"lines": content.count(b"\n"), "checksum": f"{zlib.crc32(content):08x}"}


def check_log(path: Path, step: int, record: Mapping[str, Any] | None) -> None:
    """Warn where a metrics.jsonl is gone. UserError: its lines up to `step` are not those that were written.

    record: what the checkpoint of that step keeps of them; None: it is of an earlier version, which kept nothing.
    """
    if not path.exists():
        if record is None or record["lines"]:
            many = f"its {record['lines']} lines" if record else "its lines"
            warn(f"{path} is gone: {many} up to step {step} are lost")
        return
    found = log_record(_until(path, step))
    if record is not None and found != record:
        came = f"its {found['lines']} lines up to step {step} are not those that were written"
        wanted = f"the {record['lines']} lines that the checkpoint of that step knows"
        raise UserError(path, came, wanted, "put back the file, or remove it to go on without these lines")


def _until(path: Path, step: int) -> bytes:
    """The readable lines up to a step."""
    return b"".join(raw + b"\n" for raw, line in _lines(path) if line["step"] <= step)


def truncate_after(path: Path, step: int) -> None:
    """Remove the lines after `step` from a metrics.jsonl, and an incomplete last line, by an atomic write.

    Nothing happens where there is no file.
    """
    if not path.exists():
        return
    kept = _until(path, step)
    with atomic_write(path) as aside, aside.open("wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())


class MetricsWriter:
    """Appends lines {"step", "epoch", "split", ...} to a metrics.jsonl, and flushes each."""

    def __init__(self, path: Path):
        # A link in its place would be followed to another file.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8")
        before = path.read_bytes()
        self._lines, self._checksum = before.count(b"\n"), zlib.crc32(before)

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        line = {"step": step, "epoch": epoch, "split": split, **{name: _number(v) for name, v in values.items()}}
        # allow_nan=False: NaN is not JSON, and other readers would refuse it.
        text = json.dumps(line, allow_nan=False) + "\n"
        self._file.write(text)
        self._file.flush()
        self._lines, self._checksum = self._lines + 1, zlib.crc32(text.encode(), self._checksum)

    def record(self) -> dict[str, Any]:
        """What a checkpoint is to keep of the lines so far, which are on disk then."""
        os.fsync(self._file.fileno())
        return {"lines": self._lines, "checksum": f"{self._checksum:08x}"}

    def close(self) -> None:
        self._file.close()


class TensorBoardWriter:
    """Writes scalars such as `train/loss` as event files. Values that are not finite are left out.

    resume_step: the step after which a resumed training run goes on; TensorBoard discards what was logged after it.
    """

    def __init__(self, folder: Path, *, resume_step: int | None):
        purge = None if resume_step is None else resume_step + 1
        # tensorboardX names files by the second. A training run resumed within it would overwrite its own file.
        suffix, package = f".{time.time_ns()}", _extra("tensorboardX", "tensorboard")
        self._writer = package.SummaryWriter(str(folder), purge_step=purge, filename_suffix=suffix)

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        for name, value in {"epoch": epoch, **_finite(values)}.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


def _read_id(path: Path) -> str:
    """The id of a W&B run. UserError: the file is damaged, or holds something else."""
    try:
        text = read_text(path, WANDB_ID_BYTES).strip()
    except OSError as error:
        text, came = "", f"it cannot be read ({error.strerror})"
    else:
        came = f"it holds {shortened(repr(text))}"
    if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text) is None:
        way_out = "delete the file, and W&B begins a new run; or set report.wandb=false"
        raise UserError(path, came, "the id of a run of W&B", way_out)
    return text


class WandbWriter:
    """Logs values such as `train/loss` over `step` to the W&B project demega-jax.

    The run folder holds the id of the W&B run, so that a resumed training run goes on in it. W&B keeps what was logged
    after the restored step beside what replaces it; metrics.jsonl does not.
    UserError: W&B does not start, for example without a login.
    """

    def __init__(self, run: Path, *, config: Mapping[str, Any], resume: bool):
        wandb = _extra("wandb", "wandb")
        id_file = run / WANDB_ID_FILE
        known = _read_id(id_file) if resume and id_file.exists() else None
        try:
            # console=off, because W&B would record every redraw of the progress bar.
            self._run = wandb.init(
                project="demega-jax",
                name=run.name,
                dir=str(run),
                config=dict(config),
                id=known,
                resume="allow" if known else None,
                settings={"console": "off"},
            )
        except wandb.Error as error:
            way_out = "run `wandb login`, or set WANDB_MODE=offline or report.wandb=false"
            came, wanted = f"W&B did not start ({error})", "a login to W&B, or its offline mode"
            raise UserError("report.wandb", came, wanted, way_out) from error
        write_text(id_file, f"{self._run.id}\n")
        # The step of W&B may only grow, but a resumed training run goes back. Our own step is the axis instead.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        named = {f"{split}/{name}": value for name, value in _finite(values).items()}
        self._run.log({"step": step, "epoch": epoch, **named})

    def close(self) -> None:
        self._run.finish()


@dataclass(frozen=True)
class Writers:
    """All writers of a training run, as one. log: that of metrics.jsonl.  others: TensorBoard and W&B, if asked for."""

    log: MetricsWriter
    others: tuple[Writer, ...] = ()

    @property
    def writers(self) -> tuple[Writer, ...]:
        """Every writer."""
        return (self.log, *self.others)

    def write(self, split: Split, step: int, epoch: float, values: Values) -> None:
        """Write the values of a step. A value that is None or not finite means that there is none."""
        for writer in self.writers:
            writer.write(split, step, epoch, values)

    def close(self) -> None:
        """Flush and close every writer, even if one of them fails."""
        with ExitStack() as stack:
            for writer in self.writers:
                stack.callback(writer.close)


def open_writers(
    run: Path, *, tensorboard: bool, wandb: bool, config: Mapping[str, Any], resume_step: int | None
) -> Writers:
    """The writers of an existing run folder.

    resume_step: the step after which a resumed training run goes on, to which metrics.jsonl is cut back; None for a new
    one.  UserError: a package is missing, W&B does not start, or the folder has metrics of another training run.
    """
    path = run / METRICS_FILE
    if resume_step is None and path.exists() and path.stat().st_size:
        way_out = "continue that training run with --resume, or choose another --run"
        raise UserError(path, "has lines of an earlier training run", "a new run folder", way_out)
    # Whatever can fail comes first, so that nothing is cut back for a training run that does not start.
    if tensorboard:
        _extra("tensorboardX", "tensorboard")
    writers: list[Writer] = []
    if wandb:
        writers.append(WandbWriter(run, config=config, resume=resume_step is not None))
    if tensorboard:
        writers.append(TensorBoardWriter(run / TENSORBOARD_FOLDER, resume_step=resume_step))
    if resume_step is not None:
        truncate_after(path, resume_step)
    return Writers(MetricsWriter(path), tuple(writers))


def _extra(package: str, extra: Literal["tensorboard", "wandb"]) -> Any:
    """The module of an optional dependency. UserError: it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        came, wanted = f"the package {package} is not installed", f"this package, because report.{extra} is true"
        way_out = f"{install(extra)}, or set report.{extra}=false"
        raise UserError(f"report.{extra}", came, wanted, way_out) from error


def _number(value: float | int | None) -> float | int | None:
    """The value as JSON can hold it; None where it is not finite."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _finite(values: Values) -> dict[str, float | int]:
    numbers = {name: _number(value) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if number is not None}
