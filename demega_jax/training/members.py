"""The models (members) of a training run: one, or several trained side by side, each with a folder of its own."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.training.checkpoint import Arrays, Checkpoints, Kind, Meta
from demega_jax.training.run import RunFolder
from demega_jax.training.writers import Writers, open_writers


@dataclasses.dataclass
class Standing:
    """How well a model has done so far. It is saved with each checkpoint.

    stale: validations since the best one, for early stopping.
    """

    best_macro_f1: float = -1.0
    best_step: int = 0
    stale: int = 0

    def update(self, macro_f1: float, step: int) -> bool:
        """Add a validation; returns whether it is the best so far."""
        better = macro_f1 > self.best_macro_f1
        if better:
            self.best_macro_f1, self.best_step, self.stale = macro_f1, step, 0
        else:
            self.stale += 1
        return better


def member_config(config: Config, number: int) -> Config:
    """The configuration of a training run that trains this member alone."""
    train = config.train.model_copy(update={"seed": config.train.seed + number, "members": 1})
    return config.model_copy(update={"train": train})


def stack(trees: Sequence[Any]) -> Any:
    """Several trees of arrays as one, with an axis of members in front. A single tree stays unchanged."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Member:
    """One model of a training run: its folder, its checkpoints, its log and its standing.

    number: its position among the members; None where it is the only model.  writers: its log, once it is open.
    """

    writers: Writers

    def __init__(self, folder: RunFolder, config: Config, number: int | None, meta: Meta | None, skipped: int):
        """meta: of the checkpoint that it goes on from; None for a new one.  skipped: steps skipped so far."""
        self.folder, self.config, self.number, self.skipped = folder, config, number, skipped
        self.standing = Standing() if meta is None else Standing(**meta["standing"])
        self.checkpoints = Checkpoints(folder.checkpoints)
        self.checkpoints.check_path()

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

    def save(self, kind: Kind, state: Any, meta: Meta) -> None:
        """Begin to write a checkpoint of the part of this model in the state."""
        standing, config = dataclasses.asdict(self.standing), self.config.model_dump(mode="json")
        self.checkpoints.save(kind, self.of(state), meta | {"standing": standing, "config": config})


@jax.jit
def _part(tree: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


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
        return checkpoints.read_newest("latest", ("model", "training"), at_most=at_most)
