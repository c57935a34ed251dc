"""A training run of a few steps, for tests of what is read back from its folder."""

from pathlib import Path

from demega_jax.training.checkpoint import Checkpoints
from helpers import ONE_SCHEDULE, TINY_MODEL

KEYS = [
    *TINY_MODEL,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=6",
    "train.save_every=3",
    "train.eval_every=3",
    "train.log_every=1",
    ONE_SCHEDULE,
]


def best_step(run: Path) -> int:
    """The step of the checkpoint of the best validation."""
    (step,) = Checkpoints(run / "checkpoints").steps("best")
    return step


def meta_file(run: Path, kind: str, step: int) -> Path:
    """The file with the meta of a checkpoint."""
    return run / "checkpoints" / kind / str(step) / "meta" / "metadata"
