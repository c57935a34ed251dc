"""The models (members) of a training run: one, or several trained side by side, each with a folder of its own."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from demega_jax.config import Config
from demega_jax.config.load import differing_keys
from demega_jax.errors import UserError, warn
from demega_jax.names import SCORE_NAMES, Monitor
from demega_jax.training.checkpoint import Arrays, Checkpoints, Kind, Meta, best_missing, damage_of
from demega_jax.training.monitor import is_better
from demega_jax.training.run import RunFolder, free_to_change
from demega_jax.training.writers import Values, Writers, check_log, log_record, open_writers, read_metrics


@dataclasses.dataclass
class Standing:
    """How well a model has done so far. It is saved with each checkpoint.

    monitor: the score that is compared.  best_score: None before the first validation.  stale: validations since the
    best one, for early stopping.
    """

    monitor: Monitor = "macro_f1"
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0

    @classmethod
    def of(cls, meta: Meta) -> "Standing":
        """The standing that a checkpoint holds. Earlier versions compared macro-F1 alone, -1 before the first one."""
        raw = dict(meta["standing"])
        if "best_macro_f1" in raw:
            raw["best_score"] = raw.pop("best_macro_f1")
        return cls(**raw)

    @property
    def best(self) -> str:
        """The best score in words, such as `macro-F1 0.4512`."""
        return f"{SCORE_NAMES[self.monitor]} {self.best_score or 0.0:.4f}"

    def update(self, score: float, step: int) -> bool:
        """Add a validation; returns whether it is the best so far."""
        better = is_better(self.monitor, score, self.best_score)
        if better:
            self.best_score, self.best_step, self.stale = score, step, 0
        else:
            self.stale += 1
        return better


def member_config(config: Config, number: int) -> Config:
    """The configuration of a training run that trains this member alone."""
    train = config.train.model_copy(update={"seed": config.train.seed + number, "members": 1})
    return config.model_copy(update={"train": train})


def check_members(config: Config, folder: RunFolder) -> None:
    """UserError: the config.yaml of a member is not that of the training run with the member's seed.

    Where it is missing, or a key that a resumed run may change has its old value, the run was killed as it wrote them.
    """
    for number, member in enumerate(folder.members(config)):
        if member.path == folder.path or not member.config.is_file():
            continue
        for key, (own, wanted) in differing_keys(member.read_config(), member_config(config, number)).items():
            if not free_to_change(key):
                came, wanted = f"{key} is {own}", f"{wanted}, as in {folder.config}"
                raise UserError(member.config, came, wanted, "put back the files of one training run")


def stack(trees: Sequence[Any]) -> Any:
    """Several trees of arrays as one, with an axis of members in front. A single tree stays unchanged."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Member:
    """One model of a training run: its folder, its checkpoints, its log and its standing.

    number: its position among the members; None where it is the only model.  writers: its log, once it is open.
    """

    writers: Writers | None = None

    def __init__(self, folder: RunFolder, config: Config, number: int | None, meta: Meta | None, skipped: int):
        """meta: of the checkpoint that it goes on from; None for a new one.  skipped: steps skipped so far."""
        self._describe(folder, config, number, meta, skipped)
        self.checkpoints = Checkpoints(folder.checkpoints)
        self.checkpoints.check_path()

    def _describe(self, folder: RunFolder, config: Config, number: int | None, meta: Meta | None, skipped: int) -> None:
        self.folder, self.config, self.number, self.skipped = folder, config, number, skipped
        self.standing = Standing(config.train.monitor) if meta is None else Standing.of(meta)

    @property
    def name(self) -> str:
        """How messages about this model begin: `member 3: `, or nothing where it is the only one."""
        return "" if self.number is None else f"member {self.number}: "

    @property
    def stopped(self) -> bool:
        """Whether early stopping has ended it. It trains on with the others; its log and best stay unchanged."""
        patience = self.config.train.early_stopping
        return patience is not None and self.standing.stale >= patience

    def of(self, tree: Any) -> Any:
        """The part of this model in a tree of arrays with members in front."""
        return tree if self.number is None else _part(tree, self.number)

    @contextlib.contextmanager
    def opened(self, resume_step: int | None) -> Iterator[None]:
        """Within this block its log is open. At the end its checkpoints are on disk.

        resume_step: the step after which a resumed training run goes on; None for a new one.
        """
        report, values = self.config.report, self.config.model_dump()
        switched_on = {"tensorboard": report.tensorboard, "wandb": report.wandb}
        with contextlib.closing(self.checkpoints):
            self.writers = open_writers(self.folder.path, **switched_on, config=values, resume_step=resume_step)
            with contextlib.closing(self.writers):
                yield

    def log(self, split: Literal["train", "validation"], step: int, epoch: float, values: Values) -> None:
        """Write a line of the log, which must be open."""
        assert self.writers is not None, "within `opened`"
        self.writers.write(split, step, epoch, values)

    def wait(self) -> None:
        """Wait until its checkpoints are on disk."""
        self.checkpoints.wait()

    def save(self, kind: Kind, state: Any, meta: Meta) -> None:
        """Begin to write a checkpoint of the part of this model in the state."""
        standing, config = dataclasses.asdict(self.standing), self.config.model_dump(mode="json")
        log = log_record() if self.writers is None else self.writers.log.record()
        self.checkpoints.save(kind, self.of(state), meta | {"standing": standing, "config": config, "log": log})


@jax.jit
def _part(tree: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of the metrics.jsonl of one model, as far as its checkpoints know them.

    UserError: there is no such file, or its lines are not those that were written.
    """
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        newest = checkpoints.newest_meta("latest")
    if newest is not None:
        check_log(folder.metrics, newest["step"], newest.get("log"))
    return read_metrics(folder.metrics)


def drop_after(folder: RunFolder, step: int) -> None:
    """Remove the checkpoints `latest` after a step, from which the training run does not go on."""
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        checkpoints.drop_after(step)


def read_states(folders: Sequence[RunFolder]) -> tuple[list[Arrays], list[Meta]] | None:
    """Arrays and meta of the checkpoint that each model goes on from, all of the same step; None if one has none.

    Members are saved one after the other. After a stop in between, all of them go on from the save before.
    UserError: there is no step at which all of them have a checkpoint.
    """
    newest = [_read(folder, None) for folder in folders]
    there = [found for found in newest if found is not None]
    if len(there) < len(newest):
        return None
    step = min(int(meta["step"]) for _, meta in there)
    for number, folder in enumerate(folders):
        if there[number][1]["step"] != step:
            earlier = _read(folder, step)
            if earlier is None or earlier[1]["step"] != step:
                came, way_out = f"no checkpoint of step {step}", "start again in another folder with --run"
                raise UserError(folder.checkpoints, came, "one of that step, as another member has", way_out)
            there[number] = earlier
    return [arrays for arrays, _ in there], [meta for _, meta in there]


def _read(folder: RunFolder, at_most: int | None) -> tuple[Arrays, Meta] | None:
    with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
        found = checkpoints.read_newest("latest", ("model", "training"), at_most=at_most)
        if found is not None and at_most is None:
            _check_best(checkpoints, found[1])
    return found


def _check_best(checkpoints: Checkpoints, newest: Meta) -> None:
    """Warn where the checkpoint of the best validation so far is damaged or missing."""
    best, damaged = checkpoints.search("best")
    step = None if best is None else int(best[1]["step"])
    for line in damage_of(checkpoints, "best", damaged) or best_missing(checkpoints, step, newest):
        warn(f"{line}; `evaluate` takes another one until a validation is better than {Standing.of(newest).best}")
