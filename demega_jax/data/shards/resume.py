"""Whether shards may be written into a folder, and which are there already from work that was stopped."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demega_jax.data.shards.manifest import (
    CHECK_THREADS,
    MANIFEST,
    UNFINISHED,
    Manifest,
    ShardEntry,
    crc32_of,
    read_manifest,
)
from demega_jax.errors import UserError

# No setting: by whom, and what comes of the work.
RESULTS = ("demega_jax", "shards", "saturated")


def check_folders(out: Path, plans: dict[Path, Manifest]) -> dict[Path, Manifest | None]:
    """What each folder of the plan holds of it, None: nothing. Cheap: nothing but manifests is read.

    UserError: OUT has shards of another level, or of other settings, or files that this command did not write.
    """
    for folder in sorted(out.glob("grouped_*")):
        if folder not in plans and any((folder / name).is_file() for name in (MANIFEST, UNFINISHED)):
            levels = " ".join(str(plan.level) for plan in plans.values())
            raise UserError(folder, "shards of another level", f"an OUT for level {levels}",
                            "choose another OUT, or ask for both levels with --level")  # fmt: skip
    found: dict[Path, Manifest | None] = {}
    for folder, plan in plans.items():
        found[folder] = next(
            (read_manifest(folder / name) for name in (MANIFEST, UNFINISHED) if (folder / name).is_file()), None
        )
        there = found[folder]
        if there is not None:
            check_same(folder, there, plan)
        elif files := sorted([*folder.glob("*.h5"), *folder.glob("*/*.h5")]):
            came, wanted = "a file that no manifest speaks of", "a new folder, or one with unfinished shards"
            raise UserError(files[0], came, wanted, "choose another OUT, or move it away")
    return found


def check_same(folder: Path, there: Manifest, plan: Manifest) -> None:
    """UserError naming the first setting or source in which a folder's shards differ from the plan.

    Checksums of sources that the plan does not know yet are not compared."""
    theirs, ours = _settings(there.model_dump()), _settings(plan.model_dump())
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        mine, other = ours.get(name, "none"), theirs.get(name, "none")
        if mine != other and not (name.endswith(".source.crc32") and mine == ""):
            raise UserError(
                folder, f"shards with {name} {_short(other)}", f"{name} {_short(mine)}, as asked for now",
                "choose another OUT, give the settings and data of before, or remove that folder",
            )  # fmt: skip


def _settings(dumped: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A manifest's settings as one level of names with dots."""
    found: dict[str, Any] = {}
    for key, value in dumped.items():
        if isinstance(value, dict):
            found |= _settings(value, f"{prefix}{key}.")
        elif key not in RESULTS:
            found[prefix + key] = value
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 40 else text[:37] + ".."


def finished_shards(folder: Path, there: Manifest | None) -> dict[str, ShardEntry]:
    """Shards by file name which are there as they were finished, by their checksums; others are to be made again."""
    listed = [shard for split in there.splits.values() for shard in split.shards] if there else []
    sized = [
        shard for shard in listed
        if (folder / shard.file).is_file() and (folder / shard.file).stat().st_size == shard.bytes
    ]  # fmt: skip
    with ThreadPoolExecutor(CHECK_THREADS) as threads:
        sums = threads.map(lambda shard: crc32_of(folder / shard.file), sized)
        return {shard.file: shard for shard, found in zip(sized, sums, strict=True) if found == shard.crc32}
