"""Folders of training runs: config.yaml (with every key), metrics.jsonl, checkpoints/, report/."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.config.load import differing_keys, put
from demega_jax.errors import UserError
from demega_jax.files import visible, write_text
from demega_jax.training.run_config import config_text, read_config_text

LOCK = ".lock"
# What a resumed training run may change: how often it logs, validates and saves, its loggers, where its data lie, how
# many steps may be skipped, and its end. With another end the schedule of the learning rate spans the new length,
# unless optim.schedule_length is set.
MAY_CHANGE = (
    "train.epochs",
    "train.steps",
    "train.eval_every",
    "train.save_every",
    "train.log_every",
    "train.early_stopping",
    "train.max_nonfinite_steps",
    "train.max_nonfinite_in_a_row",
    "data.path",
    "data.regroup.splits",
    "data.regroup.classes_file",
    "data.memory",
    "data.prefetch",
    "report.tensorboard",
    "report.wandb",
)


def lock_of(checkpoints: Path) -> Path:
    """The lock of the run folder that has these checkpoints."""
    return checkpoints / LOCK


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a training run and the paths in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration, with every key and its value."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Lines of JSON, each with the metrics of training or of a validation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints `latest` and `best`."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """The empty file that the process which trains here holds locked."""
        return lock_of(self.checkpoints)

    @property
    def report(self) -> Path:
        """The folder of pictures."""
        return self.path / "report"

    def members(self, config: Config) -> "tuple[RunFolder, ...]":
        """The folders of the models: members/0, members/1 and so on, or this folder where there is one model."""
        count = config.train.members
        return (self,) if count == 1 else tuple(RunFolder(self.path / "members" / str(m)) for m in range(count))

    def is_taken(self) -> bool:
        """Whether something is in the folder, other than the locks of a process that begins there."""
        return any(not path.is_dir() or path.is_symlink() for path in visible(self.path, "**/*"))

    def check_new(self) -> None:
        """UserError: something is there. An empty report/ does not count: a training run that was ended before it had
        written its configuration has left it. Nor do locks, whose names are hidden."""
        wanted, way_out = "a new folder for a new training run", "choose another --run"
        if any("\ud800" <= one <= "\udfff" for one in str(self.path.absolute())):  # bytes that are no UTF-8
            raise UserError(self.path, "a name that is no text", "a name in UTF-8, as checkpoints need", way_out)
        if self.path.exists() and not self.path.is_dir():
            raise UserError(self.path, "a file, not a folder", wanted, way_out)
        if self.config.exists():
            way_out = f"continue that training run with --resume, or {way_out}"
        if self.is_taken():
            raise UserError(self.path, "the folder exists and is not empty", wanted, way_out)

    def create(self, config: Config) -> None:
        """Make a new folder with its config.yaml. UserError: something is there already, or it cannot be made."""
        self.check_new()
        try:
            self.report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            came = f"cannot be made ({error.strerror})"
            raise UserError(self.path, came, "a folder that can be written", "choose another --run") from None
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Write config.yaml atomically. UserError: it cannot be written."""
        write_text(self.config, config_text(config), "choose another --run")

    def read_config(self) -> Config:
        """The configuration of the training run. UserError: there is none, its format is newer, or it is damaged."""
        if not self.config.is_file():
            way_out = "name another folder; `demega-jax train` makes one"
            raise UserError(self.path, "no config.yaml", "the folder of a training run", way_out)
        return read_config_text(self.config)


def free_to_change(key: str) -> bool:
    """Whether a resumed training run may change this key. Stackers are not part of a training run; `data.windows` is
    compared with the data."""
    return key in MAY_CHANGE or key.startswith(("stack.", "data.windows."))


def default_run_path(config_path: Path) -> Path:
    """The folder runs/{config name}-{time}, for a training run without --run."""
    return Path("runs") / f"{config_path.stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def resumed_config(saved: Config, asked: Config, where: Path) -> Config:
    """The saved configuration with the keys changed that a resumed training run may change (MAY_CHANGE).

    The saved configuration has values from the data, where the one that is asked for may have null: that is no
    difference. UserError: any other key differs.
    """
    changes: dict[str, Any] = {}
    for key, (old, new) in differing_keys(saved, asked).items():
        if free_to_change(key):
            left_open = key.startswith(("data.path", "data.regroup", "data.windows")) and new is None
            if not left_open:  # else the saved value stays
                changes[key] = new
        elif new is not None:
            came = f"the training run has {key}={old}, and {key}={new} is asked for"
            way_out = f"leave {key} out, or start another training run with --init {where}"
            raise UserError(where, came, "the configuration that it began with", way_out)
    raw = saved.model_dump()
    for key, value in changes.items():
        put(raw, key, value)
    return Config.model_validate(raw)
