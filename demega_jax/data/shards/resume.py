"""Whether shards may be written into a folder, and which shards an earlier, stopped command has finished there."""

from collections.abc import Mapping
from pathlib import Path

from demega_jax.data.shards.manifest import (
    MANIFEST,
    UNFINISHED,
    Manifest,
    ShardEntry,
    check_manifest,
    checksums,
    read_manifest,
)
from demega_jax.errors import UserError
from demega_jax.files import visible

# Entries of the manifest that are results, not settings: they are not compared.
RESULTS = ("demega_jax", "shards", "saturated", "manifest_crc32")


def check_folders(out: Path, plans: dict[Path, Manifest]) -> dict[Path, Manifest | None]:
    """The manifest that each folder of the plan holds already; None: the folder has none. Only manifests are read.

    UserError: OUT has shards of another level or with other settings, or files that this command did not write.
    """
    for folder in sorted(out.glob("grouped_*")):
        if folder not in plans and any((folder / name).is_file() for name in (MANIFEST, UNFINISHED)):
            levels = " ".join(str(plan.level) for plan in plans.values())
            way_out = "choose another OUT, or name all levels with --level"
            raise UserError(folder, "shards of another level", f"a folder for shards of level {levels}", way_out)
    found: dict[Path, Manifest | None] = {}
    for folder, plan in plans.items():
        manifest = next((folder / name for name in (MANIFEST, UNFINISHED) if (folder / name).is_file()), None)
        found[folder] = there = read_manifest(manifest) if manifest is not None else None
        if there is not None and manifest is not None:
            check_same(folder, there, plan)
            check_manifest(manifest)
        elif files := sorted([*visible(folder, "*.h5"), *visible(folder, "*/*.h5")]):
            came, wanted = "a file that no manifest lists", "a new folder, or one with unfinished shards"
            raise UserError(files[0], came, wanted, "choose another OUT, or move this file away")
    return found


def check_same(folder: Path, there: Manifest, plan: Manifest) -> None:
    """UserError: a folder's shards differ from the plan in a setting or source; the first one is named.

    Checksums of sources that the plan does not know yet are not compared.
    """
    theirs, ours = _settings(there.model_dump()), _settings(plan.model_dump())
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        mine, other = ours.get(name, "none"), theirs.get(name, "none")
        if mine != other and not (name.endswith(".source.crc32") and mine == ""):
            came, wanted = f"shards with {name} {_short(other)}", f"{name} {_short(mine)}, as asked for"
            way_out = "choose another OUT, give the same settings and data as before, or remove that folder"
            raise UserError(folder, came, wanted, way_out)


def _settings(dumped: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The settings of a manifest, by names with dots, such as splits.train.rows."""
    found: dict[str, object] = {}
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
    """The finished shards by file name: those whose checksums agree. All others must be made again."""
    listed = [shard for split in there.splits.values() for shard in split.shards] if there else []
    paths = {shard.file: folder / shard.file for shard in listed}
    sized = [s for s in listed if paths[s.file].is_file() and paths[s.file].stat().st_size == s.bytes]
    sums = checksums(folder, sized)
    return {shard.file: shard for shard, found in zip(sized, sums, strict=True) if found == shard.crc32}
