"""Checkpoints (orbax): the latest and the best, each array with a checksum that is verified when it is read.

checkpoints/latest/<step>: parameters, optimizer, averages, counters, position in the data; the last two are kept.
checkpoints/best/<step>: what prediction needs, at the best validation so far.
"""

import contextlib
import json
import logging
import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp

from demega_jax.errors import NO_SPACE, UserError, warn
from demega_jax.model.parameters import Arrays, flatten
from demega_jax.training.optimizer import KeyPath, path_name
from demega_jax.training.plain_path import PlainPath
from demega_jax.training.run import RunFolder
from demega_jax.training.state import TrainState

FORMAT = 1
KEPT = {"latest": 2, "best": 1}
MODEL_FIELDS = ("params", "buffers", "average")
PACKAGES = ("demega-jax", "jax", "flax", "optax", "orbax-checkpoint")
# What reading a damaged checkpoint raises: files are missing or too short, or an array or the JSON cannot be decoded.
DAMAGE = (OSError, ValueError, KeyError, TypeError)

Kind = Literal["latest", "best"]
Meta = dict[str, Any]  # what is known of a checkpoint beside its arrays, as JSON holds it


class Damaged(Exception):
    """A checkpoint that cannot be read as a whole; the message says what is wrong."""


def checksum(array: np.ndarray) -> str:
    """CRC-32 of an array's type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(head)):08x}"


def _without_trace(record: logging.LogRecord) -> bool:
    """Whether a log record has no trace. What orbax logs with a trace it also raises, from the next save or wait."""
    return not record.exc_info


def _unless_loop_closed(unraisable: Any, /) -> None:
    """Pass on what Python cannot raise, but for arrays whose write ends after another write has failed.

    They find the event loop of their thread closed; the first failure was raised already.
    """
    if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
        sys.__unraisablehook__(unraisable)


def quiet_failed_saves() -> None:
    """Keep the traces of orbax's threads off stderr when a save fails. `Checkpoints` raises what they raised.

    On a full disk the command line would otherwise print over a thousand lines, some of them after its error.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_without_trace)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_loop_closed


class Checkpoints:
    """The checkpoints of a run folder. They are written in the background; `close` waits until they are."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._plain = PlainPath(self.folder)
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, kind: Kind) -> ocp.CheckpointManager:
        if kind not in self._managers:
            folder, options = self._plain.open() / kind, ocp.CheckpointManagerOptions(max_to_keep=KEPT[kind])
            names = ("model", "training", "meta")
            self._managers[kind] = ocp.CheckpointManager(folder, options=options, item_names=names)
        return self._managers[kind]

    def check_path(self) -> None:
        """UserError: nothing could be saved at this path. Asked before the first step, not at the first save."""
        self._plain.open()

    def steps(self, kind: Kind) -> list[int]:
        """Steps that have a checkpoint folder, oldest first. A checkpoint may be damaged."""
        return sorted(self._manager(kind).all_steps(read=True)) if (self.folder / kind).is_dir() else []

    def save(self, kind: Kind, state: TrainState | Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint of `state`, or of a model alone. The arrays are copied before this returns.

        meta: what JSON can hold about the training run. Step, checksums, versions and format are added.
        """
        arrays = flatten(state)
        step = int(arrays["step"])
        parts = {"model": {name: a for name, a in arrays.items() if name.partition(".")[0] in MODEL_FIELDS}}
        if kind == "latest":
            parts["training"] = {name: a for name, a in arrays.items() if name not in parts["model"]}
        versions = {package: version(package) for package in PACKAGES}
        checksums = {item: {name: checksum(a) for name, a in part.items()} for item, part in parts.items()}
        described = dict(meta, format=FORMAT, step=step, versions=versions, checksums=checksums)
        items = {item: ocp.args.PyTreeSave(part) for item, part in parts.items()}
        manager = self._manager(kind)
        with self._space():
            manager.wait_until_finished()
            # orbax ignores the save of a step that is not newer than what is there. Where the training run went on from
            # an earlier checkpoint, later ones are replaced.
            for stale in [s for s in self.steps(kind) if s >= step]:
                manager.delete(stale)
            manager.save(step, args=ocp.args.Composite(**items, meta=ocp.args.JsonSave(described)))

    def wait(self) -> None:
        """Wait until every save is on disk. UserError: there was no space for one."""
        with self._space():
            for manager in self._managers.values():
                manager.wait_until_finished()

    def close(self) -> None:
        """Wait for saves and release the folder."""
        self.wait()
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()
        self._plain.close()

    @contextlib.contextmanager
    def _space(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            full = isinstance(error, OSError) and error.errno in NO_SPACE
            if not full and not any(words in str(error) for words in ("No space left", "File too large", "quota")):
                raise
            way_out = "free space, then continue with --resume from the checkpoint before this one"
            raise UserError(self.folder, "no space left for a checkpoint", "space for one", way_out) from None

    def read(self, kind: Kind, step: int, items: tuple[str, ...]) -> tuple[Arrays, Meta]:
        """Arrays (verified) and meta of one checkpoint. Damaged: it cannot be read. UserError: its format is newer."""
        folder = self.folder / kind / str(step)
        try:
            meta = json.loads((folder / "meta" / "metadata").read_text())
            if meta["format"] > FORMAT:
                came, way_out = f"format {meta['format']}", "upgrade demega-jax with `pip install -U demega-jax`"
                raise UserError(folder, came, f"format {FORMAT} or older", way_out)
            arrays = {}
            for item in items:
                names = meta["checksums"][item]
                restore = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
                args = {item: ocp.args.PyTreeRestore(item=dict.fromkeys(names, 0), restore_args=restore)}
                found = self._manager(kind).restore(step, args=ocp.args.Composite(**args))[item]
                for name, wanted in names.items():
                    if checksum(found[name]) != wanted:
                        raise Damaged(f"the checksum of {name} is not the one that was written")
                arrays.update(found)
        except DAMAGE as error:
            raise Damaged(" ".join(self._plain.named(str(error)).split())[:200] or type(error).__name__) from error
        return arrays, meta

    def read_newest(
        self, kind: Kind, items: tuple[str, ...] = ("model",), *, at_most: int | None = None
    ) -> tuple[Arrays, Meta] | None:
        """Arrays and meta of the newest checkpoint that can be read; None if there are no checkpoints.

        at_most: the largest step to take. Each damaged checkpoint is named in a warning. UserError: all are damaged.
        """
        steps = [step for step in self.steps(kind) if at_most is None or step <= at_most]
        for step in reversed(steps):
            try:
                return self.read(kind, step, items)
            except Damaged as damage:
                warn(f"{self.folder / kind / str(step)} is damaged ({damage}); the checkpoint before it is tried")
        if steps:
            came, way_out = f"all {len(steps)} checkpoints are damaged", "start again in another folder with --run"
            raise UserError(self.folder / kind, came, "one that can be read", way_out)
        return None


def unflatten(target: Any, arrays: Arrays, where: Path) -> Any:
    """The tree of `target` (arrays or shapes) with the values of `arrays`. UserError: a name or a shape differs."""

    def value(path: KeyPath, leaf: Any) -> np.ndarray:
        name = path_name(path)
        if name not in arrays or arrays[name].shape != leaf.shape:
            came = f"{name} has shape {arrays[name].shape}" if name in arrays else f"there is no {name}"
            way_out = "use the config.yaml of the training run that wrote this checkpoint"
            raise UserError(where, came, f"{name} of shape {leaf.shape}", way_out)
        return arrays[name]

    return jax.tree_util.tree_map_with_path(value, target)


def read_model(run: RunFolder) -> tuple[Arrays, Meta]:
    """Arrays for prediction, and the meta, of the best checkpoint of a training run; of the latest if none is best.

    The arrays have names params.* and buffers.*. Where parameters were averaged, params.* are the averages.
    UserError: there is no checkpoint.
    """
    with contextlib.closing(Checkpoints(run.checkpoints)) as checkpoints:
        found = checkpoints.read_newest("best") or checkpoints.read_newest("latest")
    if found is None:
        way_out = f"train it until it saves one: `demega-jax train --resume --run {run.path}`"
        raise UserError(run.path, "no checkpoint", "a training run that has saved one", way_out)
    arrays, meta = found
    averages = {name: arrays.pop(name) for name in list(arrays) if name.startswith("average.")}
    return arrays | {name.replace("average.", "params.", 1): a for name, a in averages.items()}, meta
