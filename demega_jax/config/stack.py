"""The section `stack`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from demega_jax.config.section import (
    BatchSize,
    Level,
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    Seed,
    Share,
    UpToThousand,
    Width,
    unfit,
)


class StackConfig(Section):
    """The stacker, which learns to combine the logits of base models (`demega-jax stack`)."""

    level: Level | None = None
    """Grouping level of the rows that all base models predict; null: the largest level of the base models."""
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    """Number of folds. The stacker never learns from logits of a base model, or scores rows, that were in the same
    fold."""
    seeds: UpToThousand = 5
    """Number of MLP stackers trained side by side, with the seeds seed, seed + 1, and so on."""
    best: UpToThousand = 3
    """Number of MLP stackers, the best on held-out rows, whose probabilities are averaged."""
    seed: Seed = 777
    """Seed of the first MLP stacker, and of the folds."""
    width: Width = 512
    """Hidden width of the MLP stacker."""
    dropout: Share = 0.5
    """Dropout probability of the MLP stacker."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate of the MLP stacker (AdamW)."""
    weight_decay: NonNegative = 1e-2
    """Weight decay of the MLP stacker."""
    batch_size: BatchSize = 256
    """Number of rows in one update of the MLP stacker."""
    epochs: Positive = 100
    """Number of epochs of the MLP stacker, at most."""
    plateau: Positive = 5
    """Number of epochs without a better macro-F1 on held-out rows after which the learning rate is halved."""
    patience: Positive = 15
    """Number of epochs without a better macro-F1 on held-out rows after which training stops."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.best > self.seeds:
            came = f"stack.best={self.best} is more than stack.seeds={self.seeds}"
            raise unfit(came, "at most as many as there are seeds", f"set stack.best={self.seeds}")
        return self
