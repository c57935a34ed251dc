"""Small files that are whole or not there, the room on a disk, and sizes as people write them."""

import os
import re
import shutil
from pathlib import Path

from demega_jax.errors import UserError


def write_text(path: Path, text: str, way_out: str = "free space, or choose another folder") -> None:
    """Write a file aside, then rename it: a reader never sees half of it. Folders are made as needed.

    UserError, with this way out: it cannot be written, as on a full disk.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        came = f"cannot be written ({error.strerror or error})"
        raise UserError(path, came, "a place that can be written to, with room for it", way_out) from error


def free_space(path: Path) -> int:
    """Bytes free where a file or folder of this name would be, which need not exist."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def parse_bytes(text: str) -> int:
    """Bytes from `4G`, `512M`, `1.5GiB` or a plain number (binary units)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size; 4G, 512M or 1.5G fit")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def cache_folder(name: str) -> Path:
    """Where something is remembered that can be made again: $XDG_CACHE_HOME/demega-jax/name, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "demega-jax" / name
