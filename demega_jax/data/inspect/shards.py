"""Inspection of shard folders: checksums, normalisation, and what their splits hold."""

from pathlib import Path

from demega_jax.data.inspect.grouped import BLOCK_ROWS, GroupedFacts, ShardFacts, check_values, facts_of
from demega_jax.data.inspect.report import Report
from demega_jax.data.shards.manifest import MANIFEST, UNFINISHED, Manifest, read_manifest
from demega_jax.data.shards.reader import is_sharded, open_shards
from demega_jax.errors import UserError, warn


def has_shards(folder: Path) -> bool:
    """Whether a folder holds shards, finished or not."""
    return is_sharded(folder) or (folder / UNFINISHED).is_file()


def inspect_shards(folder: Path) -> list[Report]:
    """A report for each split of a shard folder, every byte of which is read for the checksums."""
    report = Report(folder, "shards")
    with report.watch():
        if not is_sharded(folder):
            came = f"{UNFINISHED} and no {MANIFEST}, so the shards are unfinished"
            way_out = "run `demega-jax shard` again, which continues where it stopped"
            raise UserError(folder, came, "finished shards", way_out)
        manifest = read_manifest(folder / MANIFEST)
        return [_inspect_split(folder, name, manifest) for name in manifest.splits]
    return [report]


def _inspect_split(folder: Path, name: str, manifest: Manifest) -> Report:
    report = Report(folder / name, "shards")
    with report.watch():
        split = open_shards(folder, name, verify=False)
        checksums = "do not agree"
        with report.going_on():
            split.verify()
            checksums = "verified"
        entry = manifest.splits[name]
        blocks = [(shard.file, start) for shard in split.shards for start in range(0, shard.rows, BLOCK_ROWS)]
        report.facts = GroupedFacts(
            **facts_of(split, blocks, BLOCK_ROWS),
            dtype=manifest.dtype,
            storage="in shards",
            nbytes=sum(shard.bytes for shard in entry.shards),
            own_classes=manifest.classes is not None,
            simulated=split.simulated or None,  # shards of earlier versions do not say that they are not
            shards=ShardFacts(
                files=len(split.shards),
                rows_each=manifest.shard_rows,
                block_rows=manifest.block_rows,
                checksums=checksums,
                normalization=manifest.normalization,
                permuted=split.permuted,
                saturated=entry.saturated,
                source=entry.source.name,
                seed=manifest.seed,
            ),
        )
        if entry.saturated:
            warn(f"{entry.saturated:,} values were cut to the largest that {manifest.dtype} holds")
        check_values(split, report.facts)
    return report
