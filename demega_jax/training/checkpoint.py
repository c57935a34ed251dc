"""Checkpoints (orbax): the latest and the best kept apart, every array with a checksum that is verified on restore.

checkpoints/latest/<step>: parameters, optimizer, averages, counters and where the run stood; the last two.
checkpoints/best/<step>: what prediction needs, of the best validation so far.
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
from demega_jax.training.run import RunFolder
from demega_jax.training.state import TrainState

FORMAT = 1
KEPT = {"latest": 2, "best": 1}
MODEL_FIELDS = ("params", "buffers", "average")
PACKAGES = ("demega-jax", "jax", "flax", "optax", "orbax-checkpoint")
# What reading a damaged checkpoint raises: missing or cut files, arrays that do not decode, JSON that is none.
DAMAGE = (OSError, ValueError, KeyError, TypeError)

Kind = Literal["latest", "best"]
Arrays = dict[str, np.ndarray]


class Damaged(ValueError):
    """A checkpoint that is not whole; the message says what is wrong."""


def flatten(tree: Any) -> Arrays:
    """{dotted path: array on the host} of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): np.asarray(leaf) for p, leaf in leaves}


def checksum(array: np.ndarray) -> str:
    """CRC-32 of an array's type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(head)):08x}"


def _without_trace(record: logging.LogRecord) -> bool:
    """What orbax logs with its trace, in any of its threads, it also raises from the next save or wait."""
    return not record.exc_info


def _unless_loop_closed(unraisable: Any, /) -> None:
    """Writes of other arrays that end after the first that failed find the loop of their thread closed."""
    if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
        sys.__unraisablehook__(unraisable)


def quiet_failed_saves() -> None:
    """Keep the traces of orbax's own threads off stderr when a save fails: `Checkpoints` raises what they raised.

    For a command line: a full disk would otherwise print over a thousand lines, some after the one that says so.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_without_trace)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_loop_closed


class Checkpoints:
    """The checkpoints of a run folder. Saves go on in the background; `close` waits for them."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, kind: Kind) -> ocp.CheckpointManager:
        if kind not in self._managers:
            options = ocp.CheckpointManagerOptions(max_to_keep=KEPT[kind], create=True)
            names = ("model", "training", "meta")
            self._managers[kind] = ocp.CheckpointManager(
                (self.folder / kind).absolute(), options=options, item_names=names
            )
        return self._managers[kind]

    def steps(self, kind: Kind) -> list[int]:
        """Steps that have a checkpoint folder, oldest first; whole or not."""
        return sorted(self._manager(kind).all_steps(read=True)) if (self.folder / kind).is_dir() else []

    def save(self, kind: Kind, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint of `state`; the arrays are copied before this returns.

        meta: JSON about the run; step, checksums, versions and format are added.
        """
        arrays = flatten(state)
        model = {name: a for name, a in arrays.items() if name.partition(".")[0] in MODEL_FIELDS}
        training = {name: a for name, a in arrays.items() if name not in model} if kind == "latest" else {}
        step = int(arrays["step"])
        described = dict(
            meta, format=FORMAT, step=step,
            versions={package: version(package) for package in PACKAGES},
            checksums={item: {name: checksum(a) for name, a in part.items()}
                       for item, part in (("model", model), ("training", training)) if part},
        )  # fmt: skip
        items = {"model": ocp.args.PyTreeSave(model), "meta": ocp.args.JsonSave(described)}
        if training:
            items["training"] = ocp.args.PyTreeSave(training)
        manager = self._manager(kind)
        with self._space():
            manager.wait_until_finished()
            # orbax ignores the save of a step that is not newer than what is there: such are of a run that went
            # on from an earlier checkpoint, and are written again.
            for stale in [s for s in self.steps(kind) if s >= step]:
                manager.delete(stale)
            manager.save(step, args=ocp.args.Composite(**items))

    def wait(self) -> None:
        """Until every save is on disk. Raises `UserError` if there was no space for one."""
        with self._space():
            for manager in self._managers.values():
                manager.wait_until_finished()

    def close(self) -> None:
        """Wait for saves and release the folder."""
        self.wait()
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()

    @contextlib.contextmanager
    def _space(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            full = isinstance(error, OSError) and error.errno in NO_SPACE
            if not full and not any(words in str(error) for words in ("No space left", "File too large", "quota")):
                raise
            raise UserError(
                self.folder, "no space left for a checkpoint", "room for one more",
                "free some and go on with --resume: the checkpoint before is whole",
            ) from None  # fmt: skip

    def read(self, kind: Kind, step: int, items: tuple[str, ...]) -> tuple[Arrays, dict[str, Any]]:
        """Arrays (verified) and meta of one checkpoint. Raises `Damaged`, or `UserError` for a newer format."""
        folder = self.folder / kind / str(step)
        try:
            meta = json.loads((folder / "meta" / "metadata").read_text())
            if meta["format"] > FORMAT:
                raise UserError(
                    folder, f"format {meta['format']}", f"format {FORMAT} or older",
                    "upgrade demega-jax: `pip install -U demega-jax`",
                )  # fmt: skip
            arrays = {}
            for item in items:
                names = meta["checksums"][item]
                restore = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
                args = {item: ocp.args.PyTreeRestore(item=dict.fromkeys(names, 0), restore_args=restore)}
                found = self._manager(kind).restore(step, args=ocp.args.Composite(**args))[item]
                for name, wanted in names.items():
                    if checksum(found[name]) != wanted:
                        raise Damaged(f"the checksum of {name} does not agree")
                arrays.update(found)
        except Damaged:
            raise
        except DAMAGE as error:
            raise Damaged(" ".join(str(error).split())[:200] or type(error).__name__) from error
        return arrays, meta

    def read_newest(
        self, kind: Kind, items: tuple[str, ...] = ("model",), *, at_most: int | None = None
    ) -> tuple[Arrays, dict[str, Any]] | None:
        """The newest whole checkpoint, with a warning for each newer one that is damaged; None if there is none.

        at_most: its latest step.

        Raises: `UserError` when there are checkpoints and all are damaged.
        """
        steps = [step for step in self.steps(kind) if at_most is None or step <= at_most]
        for step in reversed(steps):
            try:
                return self.read(kind, step, items)
            except Damaged as damage:
                warn(f"{self.folder / kind / str(step)} is damaged ({damage}); trying the checkpoint before it")
        if steps:
            raise UserError(
                self.folder / kind, f"{len(steps)} checkpoints, none whole", "one that can be read",
                "start the run again in another folder",
            )  # fmt: skip
        return None


def unflatten(target: Any, arrays: Arrays, where: Path) -> Any:
    """The tree of `target` (arrays or shapes) with the values of `arrays`. Raises `UserError` where they differ."""
    wanted = jax.tree_util.tree_leaves_with_path(target)
    values = []
    for path, leaf in wanted:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name not in arrays or arrays[name].shape != leaf.shape:
            came = f"{name} of shape {arrays[name].shape}" if name in arrays else f"no {name}"
            raise UserError(
                where, came, f"{name} of shape {leaf.shape}",
                "the checkpoint is of another configuration: use that run's config.yaml",
            )  # fmt: skip
        values.append(arrays[name])
    return jax.tree.unflatten(jax.tree.structure(target), values)


def read_model(run: RunFolder) -> tuple[Arrays, dict[str, Any]]:
    """Arrays for prediction and meta of a run's best checkpoint, or its latest where none is best.

    Named params.* and buffers.*; the parameters are the average, where there is one.
    """
    checkpoints = Checkpoints(run.checkpoints)
    found = checkpoints.read_newest("best") or checkpoints.read_newest("latest")
    checkpoints.close()
    if found is None:
        raise UserError(run.path, "no checkpoint", "a run that has saved one", "train it further with --resume")
    arrays, meta = found
    averages = {name.replace("average.", "params.", 1): a for name, a in arrays.items() if name.startswith("average.")}
    return {name: a for name, a in (arrays | averages).items() if not name.startswith("average.")}, meta
