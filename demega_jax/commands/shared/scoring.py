"""What the commands that score training runs on a split have in common: options, the split, and the scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demega_jax.commands.shared.options import THERE, level_option

if TYPE_CHECKING:
    pass

Data = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder that holds grouped_K, or recordings (default: as in training)."),
]
LEVELS = "Grouping level, or several together (default: as in training)"
Level = Annotated[list[str] | None, level_option(LEVELS, THERE)]
Split = Annotated[Literal["validation", "test"], typer.Option(help="Split to score.")]
Splits = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File of splits for recordings, as for `group` (default: as in training)."),
]
