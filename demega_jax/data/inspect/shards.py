"""Inspection of shard folders: checksums, normalisation, and what their splits hold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.hdf5 import open_file
from demega_jax.data.inspect.amplitude import measure
from demega_jax.data.inspect.grouped import (
    BLOCK_ROWS,
    DEFAULT_NORM,
    SAMPLE_BLOCKS,
    GroupedFacts,
    ShardFacts,
    check_amplitude,
    order_of,
    spread,
)
from demega_jax.data.inspect.report import Report
from demega_jax.data.shards.manifest import MANIFEST, UNFINISHED, Manifest, read_manifest
from demega_jax.data.shards.reader import ShardedSplit, is_sharded, open_shards
from demega_jax.data.spread import check_spread
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
        problem = _checksum_problem(split)
        if problem is not None:
            report.problems.append(problem)
        entry = manifest.splits[name]
        facts = ShardFacts(
            files=len(split.shards), rows_each=manifest.shard_rows, block_rows=manifest.block_rows,
            checksums="verified" if problem is None else "do not agree",
            normalization=manifest.normalization, permuted=split.permuted, saturated=entry.saturated,
            source=entry.source.name, seed=manifest.seed,
        )  # fmt: skip
        amplitude = measure(_sample_blocks(split))
        report.facts = GroupedFacts(
            split=name, level=split.level, rows=split.rows, sensors=split.sensors, time_points=split.time_points,
            dtype=manifest.dtype, storage="in shards", nbytes=sum(shard.bytes for shard in entry.shards),
            classes=split.classes, own_classes=manifest.classes is not None,
            counts=tuple(split.class_counts().tolist()), order=order_of(split.labels), windows=None,
            amplitude=amplitude, reference_macro_f1=split.reference_macro_f1, simulated=None, shards=facts,
        )  # fmt: skip
        if entry.saturated:
            warn(f"{entry.saturated:,} values were cut to the largest that {manifest.dtype} holds")
        check_amplitude(split.path, amplitude)
        check_spread(split, DEFAULT_NORM)
    return report


def _checksum_problem(split: ShardedSplit) -> UserError | None:
    """The error about the bytes of a split; None: they are as they were written."""
    try:
        split.verify()
    except UserError as error:
        return error
    return None


def _sample_blocks(split: ShardedSplit) -> Iterator[Float[np.ndarray, "C n"]]:
    """Blocks of rows from all parts of a split, as `inspect.grouped.sample_blocks` gives them."""
    blocks = [
        (shard.file, start) for shard in split.shards for start in range(0, shard.rows, BLOCK_ROWS)
    ]  # fmt: skip
    for place in spread(len(blocks), SAMPLE_BLOCKS):
        path, start = blocks[place]
        with open_file(path) as file:
            rows = file["data"][start : start + BLOCK_ROWS].astype(np.float32)
        yield rows.swapaxes(0, 1).reshape(rows.shape[1], -1)
