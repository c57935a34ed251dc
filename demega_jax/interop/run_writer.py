"""Run folders for models that were not trained in one: pulled from the hub, or fitted in Python."""

import contextlib
import dataclasses
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from demega_jax.config import Config
from demega_jax.errors import UserError
from demega_jax.files import aside_prefix, held, is_held, visible, write_text
from demega_jax.training.checkpoint import Checkpoints
from demega_jax.training.members import Standing
from demega_jax.training.restore import create_members
from demega_jax.training.run import LOCK, RunFolder


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained model. step: of its checkpoint.  validation: the scores of training at that step, `macro_f1` among
    them where they are known."""

    params: PyTree
    buffers: PyTree
    step: int
    validation: Mapping[str, float] = dataclasses.field(default_factory=dict)


def check_free(run: Path) -> None:
    """UserError: there is something of this name already."""
    if run.is_dir() and any(visible(run)):
        raise UserError(run, "the folder exists and is not empty", "a new folder", "choose another folder")
    if run.exists() and not run.is_dir():
        raise UserError(run, "it is a file", "a new folder", "choose another folder")


def write_run(
    run: Path,
    config: Config,
    models: Sequence[Trained],
    meta: Mapping[str, Any],
    files: Mapping[str, str] | None = None,
) -> None:
    """Write a run folder with the best checkpoint of each model: all of it, or nothing.

    meta: what its checkpoints say beside the scores; `class_counts` among it.  files: texts to write into the
    folder, by name. UserError: the folder is not free, or cannot be written.
    """
    check_free(run)
    with aside_of(run) as aside:
        folder = RunFolder(aside)
        folder.create(config)
        create_members(config, folder)
        for name, text in (files or {}).items():
            write_text(aside / name, text)
        for each, model in zip(folder.members(config), models, strict=True):
            checkpoints = Checkpoints(each.checkpoints)
            state = {"params": model.params, "buffers": model.buffers, "step": model.step}
            monitor = config.train.monitor
            standing = Standing(monitor, model.validation.get(monitor), model.step)
            described = dict(meta, standing=dataclasses.asdict(standing), validation=dict(model.validation))
            try:
                checkpoints.save("best", state, described | {"config": each.read_config().model_dump(mode="json")})
            finally:
                checkpoints.close()


@contextlib.contextmanager
def aside_of(run: Path) -> Iterator[Path]:
    """A new folder that takes the name of `run` at the end; on a failure it is removed.

    While it is written, a process holds a lock in it. What a killed process has left for the same name is removed.
    """
    try:
        run.absolute().parent.mkdir(parents=True, exist_ok=True)
        for left in run.absolute().parent.glob(f"{glob.escape(aside_prefix(run))}*.tmp"):
            if (left / LOCK).is_file() and not is_held(left / LOCK):
                shutil.rmtree(left, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=aside_prefix(run), suffix=".tmp", dir=run.absolute().parent))
        try:
            umask = os.umask(0)
            os.umask(umask)
            aside.chmod(0o777 & ~umask)
            other = UserError(run, "another process writes it", "one process for a folder", "choose another folder")
            with held(aside / LOCK, other):
                yield aside
                (aside / LOCK).unlink()
                aside.replace(run.absolute())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        came = f"cannot be written ({error.strerror or error})"
        raise UserError(run, came, "a folder that can be written", "choose another folder, or free space") from None
