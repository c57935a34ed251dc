"""The files of a stack: its description, and its stackers as arrays."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter

from demega_jax.config import StackConfig
from demega_jax.errors import NEWER, UserError
from demega_jax.evaluation.stack.crossfit import Fitted, Kind, Stacker
from demega_jax.evaluation.stack.linear import LinearStacker
from demega_jax.evaluation.stack.mlp import MLPStackers
from demega_jax.files import SEAL, atomic_write, check_sealed, sealed, write_text
from demega_jax.reading import open_plain, read_json
from demega_jax.training.checkpoint import checksum

FORMAT = 1
NAME, ARRAYS = "stack.json", "stackers.npz"


@dataclasses.dataclass(frozen=True)
class Description:
    """What a stack is made of. bases: run folders.  classes: names.  level: of the rows.  kind: that predicts.

    fitted: how stackers were fitted, in words.  steps: of the checkpoints of each base.  arrays: the checksum of each
    array of the stackers. Both are None in a stack of an earlier version.
    """

    bases: tuple[str, ...]
    classes: tuple[str, ...]
    level: int | None
    kind: Kind
    fitted: str
    config: StackConfig
    steps: tuple[tuple[int, ...], ...] | None = None
    arrays: dict[str, str] | None = None

    def write(self, folder: Path) -> None:
        """Write stack.json."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content = {"format": FORMAT, **fields, "config": self.config.model_dump(mode="json")}
        write_text(folder / NAME, json.dumps(sealed(content), indent=1) + "\n", "choose another --run")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The description in a folder. UserError: there is none, it is damaged, or its format is newer."""
        path = folder / NAME
        try:
            raw = read_json(path)
            check_sealed(raw)
            raw.pop(SEAL, None)
            number = raw.pop("format")
            if number > FORMAT:
                raise UserError(path, f"format {number}", f"format {FORMAT} or older", NEWER)
            return TypeAdapter(cls).validate_python(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                path, f"it cannot be read ({reason})", "a stack", "make it with `demega-jax stack`"
            ) from None


def is_stack(path: Path) -> bool:
    """Whether a folder holds a finished stack."""
    return (path / NAME).is_file()


def write_stackers(folder: Path, fitted: Mapping[Kind, Fitted]) -> dict[str, str]:
    """Write the stackers of each kind by an atomic write; returns the checksum of each of their arrays."""
    arrays: dict[str, np.ndarray] = {}
    for kind, found in fitted.items():
        for number, stacker in enumerate(found.stackers):
            arrays |= {f"{kind}/{number}/{name}": array for name, array in stacker.arrays().items()}
    with atomic_write(folder / ARRAYS, "choose another --run") as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return {name: checksum(array) for name, array in arrays.items()}


def read_stackers(folder: Path, about: Description) -> Fitted:
    """The stackers of the kind that predicts. UserError: the file cannot be read, or does not fit the description."""
    path = folder / ARRAYS
    try:
        with open_plain(path) as plain, np.load(plain, allow_pickle=False) as file:
            _check_same(file, about)
            names = [name.split("/") for name in file.files if name.startswith(f"{about.kind}/")]
            count = 1 + max(int(number) for _, number, _ in names)
            each = [
                {leaf: file[f"{about.kind}/{number}/{leaf}"] for _, n, leaf in names if int(n) == number}
                for number in range(count)
            ]
        return Fitted(tuple(_stacker(about, arrays) for arrays in each), None)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120]
        way_out = "make the stack again with `demega-jax stack`"
        raise UserError(path, f"it cannot be read ({reason})", f"the stackers of {NAME}", way_out) from None


def _check_same(found: Mapping[str, np.ndarray], about: Description) -> None:
    """ValueError: the arrays are not those that the description knows."""
    if about.arrays is None:
        return
    for name in sorted(about.arrays.keys() | set(found)):
        if name not in found or name not in about.arrays or checksum(found[name]) != about.arrays[name]:
            raise ValueError(f"the array {name} is not the one that {NAME} knows")


def _stacker(about: Description, arrays: Mapping[str, np.ndarray]) -> Stacker:
    if about.kind == "linear":
        return LinearStacker.of(arrays)
    return MLPStackers.of(arrays, about.config, len(about.bases), len(about.classes))
