"""`demega-jax shard`: grouped files, permuted and normalised once, in shards for fast training."""

import argparse
from pathlib import Path
from typing import get_args

from demega_jax.names import ShardNorm


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    text = "write grouped files as shards: train rows permuted, windows normalised once, half the bytes"
    command = commands.add_parser("shard", help=text, description=text)
    command.add_argument("data", type=Path, metavar="GROUPED", help="folder that holds grouped_K")
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write grouped_K/{split}/shard-*.h5 into")
    command.add_argument(
        "--level", type=int, nargs="+", metavar="K", help="grouping levels (default: all that are there)"
    )
    command.add_argument(
        "--split", nargs="+", choices=("train", "validation", "test"), help="splits (default: those that are there)"
    )
    command.add_argument(
        "--norm", choices=get_args(ShardNorm), default="median_iqr",
        help="normalisation of each window (default median_iqr); raw: none, with median and interquartile range beside",
    )  # fmt: skip
    command.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="type of the windows (default float16)"
    )
    command.add_argument("--shard-size", default="256M", metavar="SIZE", help="of a file, at most (default 256M)")
    command.add_argument("--memory", default="256M", metavar="SIZE", help="of the rows at a time (default 256M)")
    command.add_argument("--seed", type=int, default=777, metavar="S", help="of the permutation (default 777)")
    command.set_defaults(function=shard_command)


def shard_command(arguments: argparse.Namespace) -> int:
    """Tell the plan, write the shards, a line for each. Returns the exit status. UserError: as `write_shards`."""
    from demega_jax.data.shards.writer import ShardSettings, write_shards
    from demega_jax.errors import UserError
    from demega_jax.files import parse_bytes

    def size(option: str, text: str) -> int:
        try:
            return parse_bytes(text)
        except ValueError:
            raise UserError(option, repr(text), "a size", "write 256M, 1.5G or a number of bytes") from None

    settings = ShardSettings(
        norm=arguments.norm, dtype=arguments.dtype, shard_bytes=size("--shard-size", arguments.shard_size),
        memory=size("--memory", arguments.memory), seed=arguments.seed,
    )  # fmt: skip
    manifests = write_shards(
        arguments.data, arguments.out, levels=arguments.level, splits=arguments.split, settings=settings,
        progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    for path in manifests:
        print(f"wrote {path}")
    return 0
