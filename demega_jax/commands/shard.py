"""`demega-jax shard`: shards from grouped files, for fast training."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from demega_jax.api.lists import names, numbers
from demega_jax.api.paths import check_out, check_there, parse_size
from demega_jax.commands.shared.options import THERE, Several, Split, level_option, seed_option
from demega_jax.names import SPLITS, ShardNorm
from demega_jax.saying import say, say_result

EXAMPLES = "demega-jax shard grouped shards --level 5,20"

NORM = (
    "Normalisation of each window: median_iqr, instance, zscore, none, or raw, which is none with median and "
    "interquartile range stored beside the windows."
)
OUT = "Folder to write grouped_K/{split}/shard-*.h5 into."


def command(
    grouped: Annotated[Path, Argument(metavar="GROUPED", help="Folder that holds grouped_K.")],
    out: Annotated[Path, Argument(metavar="OUT", help=OUT)],
    level: Annotated[Several, level_option("Grouping levels (default: all)", THERE)] = None,
    split: Split = None,
    norm: Annotated[ShardNorm, Option(metavar="NORM", help=NORM)] = "median_iqr",
    dtype: Annotated[
        Literal["float16", "float32"], Option(metavar="TYPE", help="Type of the stored values: float16 or float32.")
    ] = "float16",
    shard_size: Annotated[str, Option(metavar="SIZE", help="Largest size of a shard.")] = "256M",
    memory: Annotated[str, Option(metavar="SIZE", help="Memory for rows that are being written.")] = "256M",
    seed: Annotated[int, seed_option("Seed of the permutation.")] = 777,
) -> int:
    """Write grouped files as shards: rows of train shuffled, windows normalised, half the size."""
    splits = names("--split", split, SPLITS) or None
    shard_bytes, memory_bytes = parse_size("--shard-size", shard_size), parse_size("--memory", memory)
    check_there(grouped, "the folder that holds grouped_K", folder=True)
    check_out(out)
    from demega_jax.data.folder import find_levels
    from demega_jax.data.shards.writer import ShardSettings, write_shards

    levels = numbers("--level", level, lambda: sorted(find_levels(grouped))) or None
    settings = ShardSettings(norm=norm, dtype=dtype, shard_bytes=shard_bytes, memory=memory_bytes, seed=seed)
    for path in write_shards(grouped, out, levels=levels, splits=splits, settings=settings, progress=say):
        say_result(f"wrote {path}")
    return 0
