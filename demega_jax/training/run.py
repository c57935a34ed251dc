"""Run folders: config.yaml (resolved), metrics.jsonl, checkpoints/, report/."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from demega_jax.config import Config
from demega_jax.config.load import differing_keys, load_config, put, to_yaml
from demega_jax.errors import UserError
from demega_jax.files import write_text

FORMAT = 1
HEADER = f"# demega-jax run, format {FORMAT}\n"
# What a resumed run may change: cadences, loggers, where its data lie and where the run ends (its schedule stays).
MAY_CHANGE = (
    "train.epochs", "train.steps", "train.eval_every", "train.save_every", "train.log_every", "train.early_stopping",
    "data.path", "data.regroup.splits", "data.memory", "data.prefetch", "report.tensorboard", "report.wandb",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """A JSON object a line: training and validation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """`latest` and `best`."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Pictures and tables for people."""
        return self.path / "report"

    def members(self, config: Config) -> "tuple[RunFolder, ...]":
        """The folders of the run's models: members/0 .., or this one where it has one model."""
        count = config.train.members
        return (self,) if count == 1 else tuple(RunFolder(self.path / "members" / str(m)) for m in range(count))

    def create(self, config: Config) -> None:
        """Make a new folder with its config. Raises `UserError` when there is one already."""
        if self.config.exists() or (self.path.is_dir() and any(self.path.iterdir())):
            raise UserError(
                self.path, "the folder exists and is not empty", "a new folder for a new run",
                "go on with that run by --resume, or choose another --run",
            )  # fmt: skip
        try:
            self.report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                self.path, str(error.strerror), "a folder that can be written", "choose another --run"
            ) from None
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """Write config.yaml atomically. UserError: it cannot be written."""
        write_text(self.config, HEADER + to_yaml(config), "choose another --run")

    def read_config(self) -> Config:
        """The run's configuration. Raises `UserError` when there is none or its format is newer."""
        if not self.config.is_file():
            raise UserError(self.path, "no config.yaml", "the folder of a run", "`demega-jax train` makes one")
        first = self.config.read_text().partition("\n")[0]
        found = first.rpartition(" ")[2]
        if first.startswith("# demega-jax run") and found.isdigit() and int(found) > FORMAT:
            raise UserError(
                self.config, f"format {found}", f"format {FORMAT} or older",
                "upgrade demega-jax: `pip install -U demega-jax`",
            )  # fmt: skip
        return load_config(self.config)


def default_run_path(config_path: Path) -> Path:
    """runs/{config name}-{time}."""
    return Path("runs") / f"{config_path.stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def resumed_config(saved: Config, asked: Config, where: Path) -> Config:
    """The saved run's configuration with what the command may change. Raises `UserError` for any other difference.

    The saved configuration is resolved: what it has filled in from the data, and the length of its schedule, is no
    difference to a configuration that leaves those to be filled in.
    """
    changes: dict[str, Any] = {}
    for key, (old, new) in differing_keys(saved, asked).items():
        if key in MAY_CHANGE:
            if not key.startswith(("data.path", "data.regroup")) or new is not None:  # unless given, the run's own
                changes[key] = new
        elif new is not None:
            raise UserError(
                where, f"{key}={old} in the run, {new} asked", "the configuration that the run began with",
                f"leave {key} as it was, or start another run with --init {where}",
            )  # fmt: skip
    raw = saved.model_dump()
    for key, value in changes.items():
        put(raw, key, value)
    return Config.model_validate(raw)
