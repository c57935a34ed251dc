"""Damage to a file: cut, one bit turned over, emptied, removed, replaced by that of another. It can be undone."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DAMAGES = ("bit", "cut", "emptied", "removed", "replaced")


@contextlib.contextmanager
def damaged(path: Path, how: str, other: Path, rng: np.random.Generator) -> Iterator[str]:
    """A file that is damaged within the block; gives what was done. other: the same file of something else."""
    content = path.read_bytes()
    path.unlink()  # the file that comes is another one, so that nobody takes it for one that is open
    said = how
    if how == "bit":
        place, bit = int(rng.integers(len(content))) if content else 0, int(rng.integers(8))
        said = f"bit {bit} of byte {place}"
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :] if content else b""
        )
    elif how == "cut":
        length = int(rng.integers(len(content))) if content else 0
        said = f"cut to {length} of {len(content)} bytes"
        path.write_bytes(content[:length])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "replaced":
        shutil.copyfile(other, path)
    try:
        yield said
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
