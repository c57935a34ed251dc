"""`demega-jax shard`: shards from grouped files, for fast training."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demega_jax.commands.shared.lists import names, numbers
from demega_jax.commands.shared.options import THERE, Split, level_option, parse_size
from demega_jax.names import SPLITS, ShardNorm

EXAMPLES = "demega-jax shard grouped shards --level 5,20"

Grouped = Annotated[Path, typer.Argument(metavar="GROUPED", help="Folder that holds grouped_K.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write grouped_K/{split}/shard-*.h5 into.")]
Level = Annotated[list[str] | None, level_option("Grouping levels (default: all)", THERE)]
Norm = Annotated[
    ShardNorm,
    typer.Option(
        metavar="NORM",
        help="Normalisation of each window: median_iqr, instance, zscore, none, or raw, which is none with median and "
        "interquartile range stored beside the windows.",
    ),
]
Dtype = Annotated[
    Literal["float16", "float32"], typer.Option(metavar="TYPE", help="Type of the stored values: float16 or float32.")
]
ShardSize = Annotated[str, typer.Option(metavar="SIZE", help="Largest size of a shard.")]
Memory = Annotated[str, typer.Option(metavar="SIZE", help="Memory for rows that are being written.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Seed of the permutation.")]


def command(
    grouped: Grouped, out: Out, level: Level = None, split: Split = None, norm: Norm = "median_iqr",
    dtype: Dtype = "float16", shard_size: ShardSize = "256M", memory: Memory = "256M", seed: Seed = 777,
) -> int:  # fmt: skip
    """Write grouped files as shards: rows of train shuffled, windows normalised, half the size."""
    splits = names("--split", split or (), SPLITS) or None
    sizes = parse_size("--shard-size", shard_size), parse_size("--memory", memory)
    from demega_jax.data.folder import find_levels
    from demega_jax.data.shards.writer import ShardSettings, write_shards

    levels = numbers("--level", level or (), lambda: sorted(find_levels(grouped))) or None
    settings = ShardSettings(norm=norm, dtype=dtype, shard_bytes=sizes[0], memory=sizes[1], seed=seed)
    manifests = write_shards(
        grouped, out, levels=levels, splits=splits, settings=settings, progress=lambda line: print(line, flush=True)
    )
    for path in manifests:
        print(f"wrote {path}")
    return 0
