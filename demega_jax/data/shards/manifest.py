"""The manifest of a shard folder: what is in it, what it was made from, and the checksum of every file.

OUT/grouped_K/manifest.json            written last: a folder that has it is complete
OUT/grouped_K/.shards.partial.json     the same while the work is unfinished, with the shards that are finished
OUT/grouped_K/{split}/shard-00000.h5   data [n, C, T], labels [n], rows [n] (of the source); with `raw` also median
                                       and iqr [n, C]
"""

import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demega_jax.data.unreadable import why_unreadable
from demega_jax.errors import UserError
from demega_jax.files import write_text
from demega_jax.names import ShardNorm
from demega_jax.reading import open_plain, read_json

MANIFEST, UNFINISHED = "manifest.json", ".shards.partial.json"
# Manifests that say of which events windows are, or that windows without a reference score are simulated, have 3;
# others that say how windows were measured have 2, and all others have 1. Earlier versions refuse unknown keys.
VERSION = 3
CHECK_THREADS = 4
CHECK_BYTES = 2**22  # of one read while a checksum is taken
AGAIN = "run `demega-jax shard` again with the same settings, which makes that file again, or copy the file again"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ShardEntry(_Entry):
    """A finished shard. crc32: of the whole file, in hexadecimal.  saturated: values that were cut to the limit."""

    file: str
    rows: int = Field(gt=0)
    bytes: int
    crc32: str
    saturated: int


class SourceEntry(_Entry):
    """The grouped file that a split was made from; crc32 is that of the whole file, in hexadecimal."""

    name: str
    bytes: int
    crc32: str


class SplitEntry(_Entry):
    """A split. permuted: rows lie in random order (train); otherwise in the source's.

    simulated: whether the source says so; None: where it has a reference_macro_f1, as simulated data alone do.
    """

    source: SourceEntry
    rows: int = Field(gt=0)
    permuted: bool
    class_counts: dict[str, int]
    reference_macro_f1: float | None
    saturated: int
    shards: list[ShardEntry]
    simulated: bool | None = None


class Manifest(_Entry):
    """Everything about a folder. normalization `raw`: data as in the source, with median and interquartile range.

    manifest_crc32: of everything else in the manifest; None: it was written before there was one.
    """

    format: Literal["demega-jax shards"] = "demega-jax shards"
    version: int = 1
    demega_jax: str
    checksum: Literal["crc32"] = "crc32"
    level: int
    classes: list[str] | None  # as the source names them; None: it names none
    sensors: int = Field(gt=0)
    time_points: int = Field(gt=0)
    dtype: Literal["float16", "float32"]
    normalization: ShardNorm
    seed: int
    shard_rows: int = Field(gt=0)  # of every shard but the last of a split
    block_rows: int = Field(gt=0)  # rows of one read, which also are shuffled as one block in each epoch
    splits: dict[str, SplitEntry]
    acquisition: dict[str, Any] | None = None  # sampling rate and sensors, by the names of `Acquisition`; None: unknown
    manifest_crc32: str | None = None


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. UserError: it cannot be read, is damaged, or of a newer format."""
    try:
        raw = read_json(path)
        version = raw["version"] if isinstance(raw, dict) else None
        if isinstance(version, int) and version > VERSION:
            came = f"shards of format {version}, written by demega-jax {raw.get('demega_jax')}"
            way_out = "update demega-jax, or make the shards again"
            raise UserError(path, came, f"format {VERSION} or older", way_out)
        return Manifest.model_validate(raw)
    except OSError as error:
        came, wanted = f"cannot be read ({error.strerror})", "the manifest of a shard folder"
        raise why_unreadable(path, error) or UserError(
            path, came, wanted, "give a folder that `demega-jax shard` finished"
        ) from None
    except (ValidationError, ValueError, KeyError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            reason = f"no `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
        came, wanted = f"damaged ({reason})", "the manifest of a shard folder"
        raise UserError(path, came, wanted, "run `demega-jax shard` again into another folder") from None


def check_manifest(path: Path) -> None:
    """UserError: a manifest that `read_manifest` can read says something else than what was written."""
    raw = read_json(path)
    wanted, found = raw.get("manifest_crc32"), _crc32_of_content(raw)
    if wanted is not None and wanted != found:
        came = f"altered, as the CRC-32 of what it says is {found}"
        raise UserError(path, came, f"{wanted}, as it says itself", "copy it again, or make the shards again")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest and its checksum atomically. UserError: it cannot be written, as on a full disk."""
    content = manifest.model_dump(mode="json")
    if manifest.acquisition is None:
        del content["acquisition"]
    for name in [name for name, split in manifest.splits.items() if split.simulated is None]:
        del content["splits"][name]["simulated"]
    content["manifest_crc32"] = _crc32_of_content(content)
    write_text(path, json.dumps(content, indent=1) + "\n")


def _crc32_of_content(content: dict[str, object]) -> str:
    """CRC-32 of the content of a manifest but for its own checksum; the layout of the text makes no difference."""
    rest = {name: value for name, value in content.items() if name != "manifest_crc32"}
    return f"{zlib.crc32(json.dumps(rest, sort_keys=True).encode()):08x}"


def crc32_of(path: Path) -> str:
    """CRC-32 of a file, eight hexadecimal digits. UserError: it cannot be read."""
    value, buffer = 0, bytearray(CHECK_BYTES)
    try:
        with open_plain(path) as file:
            while count := file.readinto(buffer):
                value = zlib.crc32(memoryview(buffer)[:count], value)
    except OSError as error:
        way_out = "check the disk, or copy the file again"
        came = f"cannot be read ({error.strerror})"
        raise why_unreadable(path, error) or UserError(path, came, "a readable file", way_out) from None
    return f"{value:08x}"


def checksums(folder: Path, entries: Sequence[ShardEntry]) -> list[str]:
    """The CRC-32 of each shard as it is on the disk."""
    with ThreadPoolExecutor(CHECK_THREADS) as threads:  # zlib releases the interpreter's lock, so threads help
        return list(threads.map(crc32_of, [folder / entry.file for entry in entries]))


def check_sizes(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """UserError: a shard is missing, or has another size than the manifest says."""
    for entry in entries:
        path = folder / entry.file
        if not path.is_file():
            raise UserError(path, "missing", "every shard that the manifest lists", AGAIN)
        if (size := path.stat().st_size) != entry.bytes:
            raise UserError(path, f"{size} bytes", f"{entry.bytes} bytes, as the manifest says", AGAIN)


def check_shards(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """UserError: a shard is missing, or its bytes are not those that were written."""
    check_sizes(folder, entries)
    for entry, found in zip(entries, checksums(folder, entries), strict=True):
        if found != entry.crc32:
            came = f"altered, as its CRC-32 is {found}"
            raise UserError(folder / entry.file, came, f"{entry.crc32}, as the manifest says", AGAIN)
