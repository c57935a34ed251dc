"""A finished stack as a way to combine the predictions of its base models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.errors import UserError, listed
from demega_jax.evaluation.model import Model
from demega_jax.evaluation.predict import Predictions
from demega_jax.evaluation.stack.crossfit import Fitted, side_by_side
from demega_jax.evaluation.stack.store import Description, is_stack, read_stackers
from demega_jax.names import same_names


@dataclasses.dataclass(frozen=True, eq=False)
class StackCombination:
    """The stackers of a folder. members: number of models of each base, whose logits are averaged."""

    fitted: Fitted
    members: tuple[int, ...]
    method = "stack"

    @classmethod
    def read(cls, folder: Path, models: Sequence[Model]) -> "StackCombination":
        """The stackers of a folder for the models of its bases. UserError: they cannot be read, or do not fit."""
        about = Description.read(folder)
        if not same_names(about.classes, models[0].classes):
            came, way_out = "stackers of other classes than the base models", "make the stack again"
            raise UserError(folder, came, "the same classes in all of them", way_out)
        for steps, model in zip(about.steps or (), models, strict=about.steps is not None):
            if steps != model.steps:
                came = f"the stackers learned from step {listed(steps)} of {model.name}"
                raise UserError(folder, came, f"its best now, step {listed(model.steps)}", "make the stack again")
        return cls(read_stackers(folder, about), tuple(len(model.steps) for model in models))

    def __call__(self, found: Predictions) -> Float[np.ndarray, "N V"]:
        """The probabilities of the stack."""
        ends = np.cumsum(self.members)[:-1]
        logits = np.stack([part.mean(axis=0) for part in np.split(found.logits, ends)])
        return self.fitted.predict(side_by_side(logits))


def expanded(runs: Sequence[Path]) -> tuple[list[Path], Path | None, int | None]:
    """(training runs, None, None), or (the base models of a stack, its folder, the level of its rows).

    UserError: a stack beside other runs.
    """
    stacks = [run for run in runs if is_stack(run)]
    if not stacks:
        return list(runs), None, None
    if len(runs) > 1:
        came = "a stack, given beside other training runs"
        raise UserError(stacks[0], came, "a stack alone, or training runs", "leave out the others")
    about = Description.read(stacks[0])
    return [Path(base) for base in about.bases], stacks[0], about.level
