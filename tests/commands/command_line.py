"""What the tests of the commands share: a small model, and how a command fails."""

from helpers import ONE_SCHEDULE, TINY_MODEL

from demega_jax.cli import main

SMALL = [
    *TINY_MODEL,
    ONE_SCHEDULE,
    "train.batch_size=16",
    "train.epochs=null",
    "train.steps=12",
    "train.eval_every=6",
    "train.log_every=3",
]


def fails(capsys, *arguments: object) -> str:
    """The one line of a command that stops with exit status 2."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert all(line.startswith("warning: ") for line in error.splitlines()[:-1])
    return last
