"""One process for a run folder: its lock, and what a killed process left behind."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.files import held, is_held, visible
from demega_jax.training.run import RunFolder

UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written


def check_alone(folder: RunFolder) -> None:
    """UserError: another process trains in a run folder. It is for early checks; `alone_in` holds the lock."""
    if is_held(folder.lock):
        raise _other(folder)


@contextlib.contextmanager
def alone_in(folder: RunFolder, config: Config) -> Iterator[None]:
    """Within this block no other process trains in a run folder or in one of its members.

    What a killed process was writing there is removed. A new folder in which nothing was made is removed at the end,
    and one that was begun, too, where training fails before it has logged or saved a step.
    UserError: another process trains there, or the folder cannot be written.
    """
    new = not folder.path.exists()
    free = new or not folder.is_taken()
    places = tuple(dict.fromkeys((folder, *folder.members(config))))
    with contextlib.ExitStack() as stack:
        for place in places:
            if stack.enter_context(held(place.lock, _other(place))):
                _remove_unfinished(place)
        try:
            yield
        except BaseException:  # also Ctrl-C and SIGTERM; it goes on below, once the folder is as it was
            if free and not _has_trained(folder):
                _empty(folder)
            raise
        finally:
            if new and not folder.is_taken():
                shutil.rmtree(folder.path, ignore_errors=True)


def _has_trained(folder: RunFolder) -> bool:
    """Whether a step was logged or saved in a run folder or in one of its members."""
    logged = any(log.stat().st_size for log in folder.path.rglob(folder.metrics.name))
    return logged or any(visible(folder.path, f"**/{folder.checkpoints.name}/*/*"))


def _empty(folder: RunFolder) -> None:
    """Remove what the start of a training run has made."""
    for path in visible(folder.path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _other(folder: RunFolder) -> UserError:
    way_out = "wait until that process has ended, or choose another --run"
    return UserError(folder.path, "another process trains in it", "one process for a run folder", way_out)


def _remove_unfinished(place: RunFolder) -> None:
    """Remove the checkpoints, and the copies of files, that a killed process was writing."""
    for kind in ("latest", "best"):
        for unfinished in (place.checkpoints / kind).glob(f"*{UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
    for file in (place.config, place.metrics):
        for unfinished in _aside(file):
            unfinished.unlink(missing_ok=True)


def _aside(file: Path) -> Iterator[Path]:
    """What `atomic_write` was writing in place of a file."""
    yield from file.parent.glob(f".{file.name}.*.tmp")
