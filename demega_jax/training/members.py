"""The models of a run: one, or several side by side, each in a folder of its own and going its own way."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.training.checkpoint import Arrays, Checkpoints, Kind
from demega_jax.training.run import RunFolder
from demega_jax.training.writers import Writers, open_writers


@dataclasses.dataclass
class Standing:
    """Where a model stands beside its arrays; saved with each checkpoint."""

    best_macro_f1: float = -1.0
    best_step: int = 0
    stale: int = 0  # validations since the best

    def update(self, macro_f1: float, step: int) -> bool:
        """Take in a validation; whether it is the best so far."""
        better = macro_f1 > self.best_macro_f1
        if better:
            self.best_macro_f1, self.best_step, self.stale = macro_f1, step, 0
        else:
            self.stale += 1
        return better


def member_config(config: Config, number: int) -> Config:
    """The configuration of a run that trains that member alone."""
    train = config.train.model_copy(update={"seed": config.train.seed + number, "members": 1})
    return config.model_copy(update={"train": train})


def stack(trees: Sequence[Any]) -> Any:
    """Trees of arrays as one, members in front; a single one as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Member:
    """One of the models of a run: its folder, its checkpoints, its log, and where it stands.

    number: among the members; None for the only model of a run.
    """

    def __init__(
        self, folder: RunFolder, config: Config, number: int | None, meta: dict[str, Any] | None, skipped: int
    ):
        """meta: of the checkpoint it goes on from; None for a new run.  skipped: its steps that changed nothing yet."""
        self.folder, self.config, self.number, self.skipped = folder, config, number, skipped
        self.standing = Standing() if meta is None else Standing(**meta["standing"])
        self.checkpoints = Checkpoints(folder.checkpoints)
        self._writers: Writers | None = None

    @property
    def name(self) -> str:
        """How lines for people begin that are about this model."""
        return "" if self.number is None else f"member {self.number}: "

    @property
    def stopped(self) -> bool:
        """Whether early stopping has ended it: its log and its best stay, though it trains on with the others."""
        patience = self.config.train.early_stopping
        return patience is not None and self.standing.stale >= patience

    def of(self, tree: Any) -> Any:
        """This model's part of a tree of arrays on the devices."""
        return tree if self.number is None else _part(tree, self.number)

    def open(self, resume_step: int | None) -> None:
        """Open its log. resume_step: where a resumed run goes on."""
        report = self.config.report
        self._writers = open_writers(
            self.folder.path, tensorboard=report.tensorboard, wandb=report.wandb, config=self.config.model_dump(),
            resume_step=resume_step,
        )  # fmt: skip

    @property
    def writers(self) -> Writers:
        """Its open log."""
        assert self._writers is not None
        return self._writers

    def close(self) -> None:
        """Close its log, and wait for its checkpoints."""
        try:
            if self._writers is not None:
                self._writers.close()
        finally:
            self.checkpoints.close()

    def save(self, kind: Kind, state: Any, meta: dict[str, Any], validation: Mapping[str, float] | None = None) -> None:
        """Begin to write a checkpoint of this model's part of the state."""
        described = meta | {
            "standing": dataclasses.asdict(self.standing),
            "config": self.config.model_dump(mode="json"),
        }
        if validation is not None:
            described["validation"] = dict(validation)
        self.checkpoints.save(kind, self.of(state), described)


@jax.jit
def _part(tree: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


def read_states(folders: Sequence[RunFolder]) -> tuple[list[Arrays], list[dict[str, Any]]] | None:
    """Arrays and meta of each model's checkpoint to go on from, all of one step; None where one model has none.

    Members save one after the other: a run that was killed in between goes on from the save before.
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
                raise UserError(
                    folder.checkpoints, f"no checkpoint of step {step}, which is where another member stands",
                    "checkpoints of all members from one step", "start the run again in another folder",
                )  # fmt: skip
            there[number] = earlier
    return [arrays for arrays, _ in there], [meta for _, meta in there]


def _read(folder: RunFolder, at_most: int | None) -> tuple[Arrays, dict[str, Any]] | None:
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        return checkpoints.read_newest("latest", ("model", "training"), at_most=at_most)
    finally:
        checkpoints.close()
