"""Checkpoints (orbax): the latest and the best, each array with a checksum that is verified when it is read.

checkpoints/latest/<step>: parameters, optimizer, averages, counters, position in the data; the last two are kept.
checkpoints/best/<step>: what prediction needs, at the best validation so far.
"""

import contextlib
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp

from demega_jax.errors import NEWER, NO_SPACE, UserError, listed, warn
from demega_jax.files import is_held, sealed
from demega_jax.model.parameters import Arrays, flatten
from demega_jax.reading import read_json
from demega_jax.training.alone_manager import alone_manager
from demega_jax.training.formats import from_format_1
from demega_jax.training.meta import Damaged, Meta, check_config, check_seal, check_sealed_format, check_step
from demega_jax.training.optimizer import KeyPath, path_name
from demega_jax.training.plain_path import PlainPath
from demega_jax.training.quiet import quiet_closed_loops
from demega_jax.training.run import RunFolder, lock_of
from demega_jax.training.state import TrainState

FORMAT = 2
KEPT = {"latest": 2, "best": 1}
MODEL_FIELDS = ("params", "buffers", "average")
PACKAGES = ("demega-jax", "jax", "flax", "optax", "orbax-checkpoint")
# What reading a damaged checkpoint raises: files are missing or too short, or an array or the JSON cannot be decoded.
DAMAGE = (OSError, ValueError, KeyError, TypeError)
REMOVED_WITHIN = 6  # half seconds in which a training run has removed a checkpoint that it is removing

Kind = Literal["latest", "best"]


def checksum(array: np.ndarray) -> str:
    """CRC-32 of an array's type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return f"{zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(head)):08x}"


class Checkpoints:
    """The checkpoints of a run folder. They are written in the background; `close` waits until they are."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._plain = PlainPath(self.folder)
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, kind: Kind) -> ocp.CheckpointManager:
        if kind not in self._managers:
            folder = self._plain.open() / kind
            names = ("model", "training", "meta")
            if jax.process_count() == 1:
                options = ocp.CheckpointManagerOptions(max_to_keep=KEPT[kind])
                self._managers[kind] = ocp.CheckpointManager(folder, options=options, item_names=names)
            else:
                self._managers[kind] = alone_manager(folder, KEPT[kind], names)
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
        described = sealed(dict(meta, format=FORMAT, step=step, versions=versions, checksums=checksums))
        items = {item: ocp.args.PyTreeSave(part) for item, part in parts.items()}
        manager = self._manager(kind)
        with self._written():
            manager.wait_until_finished()
            if kind == "latest" and "best" in self._managers:
                # What a checkpoint says of the best validation is on disk before it is.
                self._managers["best"].wait_until_finished()
            # orbax ignores the save of a step that is not newer than what is there. Where the training run went on from
            # an earlier checkpoint, later ones are replaced.
            for stale in [s for s in self.steps(kind) if s >= step]:
                manager.delete(stale)
            manager.save(step, args=ocp.args.Composite(**items, meta=ocp.args.JsonSave(described)))

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints `latest` after a step, damaged or whole."""
        for later in [s for s in self.steps("latest") if s > step]:
            self._manager("latest").delete(later)

    def wait(self) -> None:
        """Wait until every save is on disk. UserError: there was no space for one."""
        with self._written():
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
    def _written(self) -> Iterator[None]:
        """Turn what the system says when a checkpoint cannot be written into a UserError."""
        try:
            yield
        except (OSError, ValueError) as error:
            number = _system_error(error)
            again = "then continue with --resume from the checkpoint before this one"
            if number in NO_SPACE or any(words in str(error) for words in ("No space left", "File too large", "quota")):
                wanted, way_out = "space for one", f"free space, {again}"
                raise UserError(self.folder, "no space left for a checkpoint", wanted, way_out) from None
            if number is None:
                raise
            came, wanted = f"a checkpoint cannot be written ({os.strerror(number)})", "a folder that can be written"
            raise UserError(self.folder, came, wanted, f"see to its permissions and its disk, {again}") from None

    def read(self, kind: Kind, step: int, items: tuple[str, ...]) -> tuple[Arrays, Meta]:
        """Arrays and meta of one checkpoint, both verified.

        Damaged: it cannot be read, or is not what was written. UserError: its format is newer.
        """
        quiet_closed_loops()
        with self._damage():
            meta = self._meta(kind, step)
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
            check_seal(meta)
            if int(arrays.get("step", step)) != step:
                raise Damaged(f"step is {arrays['step']} in its arrays, and {step} in the name of its folder")
        return from_format_1(arrays) if meta["format"] == 1 else arrays, meta

    def read_meta(self, kind: Kind, step: int) -> Meta:
        """The meta of one checkpoint, verified. Damaged, UserError: as for `read`."""
        with self._damage():
            meta = self._meta(kind, step)
            check_seal(meta)
        return meta

    def _meta(self, kind: Kind, step: int) -> Meta:
        folder = self.folder / kind / str(step)
        meta = read_json(folder / "meta" / "metadata")
        check_sealed_format(meta)
        if meta["format"] > FORMAT:
            raise UserError(folder, f"format {meta['format']}", f"format {FORMAT} or older", NEWER)
        check_step(meta, step)
        return meta

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn what reading a damaged checkpoint raises into `Damaged`."""
        try:
            yield
        except DAMAGE as error:
            came = f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
            raise Damaged(" ".join(self._plain.named(came).split())[:200] or type(error).__name__) from error

    def newest_meta(self, kind: Kind) -> Meta | None:
        """The meta of the newest checkpoint whose meta is whole; None if there is none. UserError: a newer format."""
        for step in reversed(self.steps(kind)):
            with contextlib.suppress(Damaged):  # whoever reads its arrays names the damage
                return self.read_meta(kind, step)
        return None

    def search(
        self, kind: Kind, items: tuple[str, ...] = ("model",), *, at_most: int | None = None
    ) -> tuple[tuple[Arrays, Meta] | None, dict[int, Damaged]]:
        """Arrays and meta of the newest checkpoint that can be read, or None, and the damage of those after it.

        at_most: the largest step to take. A checkpoint that a living training run removes meanwhile is not damaged.
        UserError: a newer format.
        """
        damaged: dict[int, Damaged] = {}
        while steps := [s for s in self.steps(kind) if s not in damaged and (at_most is None or s <= at_most)]:
            try:
                return self.read(kind, steps[-1], items), damaged
            except Damaged as damage:
                if not self.is_being_removed(kind, steps[-1]):
                    damaged[steps[-1]] = damage
        return None, damaged

    def is_being_removed(self, kind: Kind, step: int) -> bool:
        """Whether a checkpoint that could not be read is gone, or goes while the training run that has it lives."""
        folder = self.folder / kind / str(step)
        for _ in range(REMOVED_WITHIN):
            if not folder.is_dir():
                return True
            if not is_held(lock_of(self.folder)):
                return not folder.is_dir()
            time.sleep(0.5)
        return False

    def read_newest(
        self, kind: Kind, items: tuple[str, ...] = ("model",), *, at_most: int | None = None
    ) -> tuple[Arrays, Meta] | None:
        """Arrays and meta of the newest checkpoint that can be read; None if there are no checkpoints.

        at_most: the largest step to take. Each damaged checkpoint is named in a warning. UserError: all are damaged.
        """
        found, damaged = self.search(kind, items, at_most=at_most)
        then = "nothing before it can be read" if found is None else f"the one of step {found[1]['step']} is taken"
        for step, damage in damaged.items():
            warn(f"{self.folder / kind / str(step)} is damaged ({damage}); {then}")
        if found is None and damaged:
            came, way_out = f"all {len(damaged)} checkpoints are damaged", "start again in another folder with --run"
            raise UserError(self.folder / kind, came, "one that can be read", way_out)
        return found


def _system_error(error: OSError | ValueError) -> int | None:
    """The number of an error of the system, which tensorstore has in its words; None: it is another error."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return None if found is None else int(found[1])


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


def check_arrays(target: Any, arrays: Arrays, where: Path) -> None:
    """UserError: the arrays are not all those of `target` (arrays or shapes) and no others, of the same types."""
    wanted = {path_name(path): leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(target)}
    way_out = "use the config.yaml of the training run that wrote this checkpoint"
    if surplus := sorted(arrays.keys() - wanted.keys()):
        came = f"{len(surplus)} arrays that the model of config.yaml does not have ({listed(surplus, 3)})"
        raise UserError(where, came, f"the {len(wanted)} arrays of that model", way_out)
    for name, dtype in wanted.items():
        if name in arrays and arrays[name].dtype != dtype:
            raise UserError(where, f"{name} is of type {arrays[name].dtype}", f"type {dtype}", way_out)


def read_model(run: RunFolder) -> tuple[Arrays, Meta]:
    """Arrays for prediction, and the meta, of the best checkpoint of a training run; of the latest if none is best.

    The arrays have names params.* and buffers.*. Where parameters were averaged, params.* are the averages. A warning
    says where a best checkpoint is damaged or missing, so that the latest is taken.
    UserError: there is no checkpoint, none can be read, or it was written with another configuration.
    """
    with contextlib.closing(Checkpoints(run.checkpoints)) as checkpoints:
        found = _best_or_latest(checkpoints)
    if found is None:
        way_out = f"train it until it saves one: `demega-jax train --resume --run {run.path}`"
        raise UserError(run.path, "no checkpoint", "a training run that has saved one", way_out)
    arrays, meta = found
    check_config(run.read_config(), meta, run)
    averages = {name: arrays.pop(name) for name in list(arrays) if name.startswith("average.")}
    return arrays | {name.replace("average.", "params.", 1): a for name, a in averages.items()}, meta


def _best_or_latest(checkpoints: Checkpoints) -> tuple[Arrays, Meta] | None:
    newest = checkpoints.newest_meta("latest")  # before the best is read: a living training run may save meanwhile
    found, damaged = checkpoints.search("best")
    if found is not None:
        for line in damage_of(checkpoints, "best", damaged) or best_missing(checkpoints, found[1]["step"], newest):
            warn(f"{line}; the one of step {found[1]['step']} is used")
        return found
    latest, more = checkpoints.search("latest")
    lines = damage_of(checkpoints, "best", damaged) + damage_of(checkpoints, "latest", more)
    if latest is not None:
        for line in lines or best_missing(checkpoints, None, newest):
            warn(f"{line}; the latest checkpoint, of step {latest[1]['step']}, is used in its place")
    elif lines:
        for line in lines:
            warn(line)
        came, way_out = f"all {len(lines)} checkpoints are damaged", "train again in another folder with --run"
        raise UserError(checkpoints.folder, came, "one that can be read", way_out)
    return latest


def damage_of(checkpoints: Checkpoints, kind: Kind, damaged: Mapping[int, Damaged]) -> list[str]:
    """What is wrong with damaged checkpoints, a line for each."""
    which = ", of the best validation," if kind == "best" else ""
    return [f"{checkpoints.folder / kind / str(step)}{which} is damaged ({why})" for step, why in damaged.items()]


def best_missing(checkpoints: Checkpoints, step: int | None, newest: Meta | None) -> list[str]:
    """A line where the best checkpoint is not there that a later checkpoint knows of.

    step: of the best checkpoint that is there.  newest: the meta of the later one. A best checkpoint is on disk before
    a later one is begun.
    """
    best = 0 if newest is None else newest.get("standing", {}).get("best_step", 0)
    if (step or 0) >= best:
        return []
    return [f"{checkpoints.folder / 'best'}: the checkpoint of the best validation, at step {best}, is missing"]
