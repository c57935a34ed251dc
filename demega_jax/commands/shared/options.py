"""Options that several commands have, and checks of their values."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option
from typer.models import OptionInfo

from demega_jax.errors import UserError
from demega_jax.names import MAX_DEVICES, MAX_SEED, SPLITS

# The items of an option that takes a list, see `lists.py`.
Several = list[str] | None

Data = Annotated[str | None, Option(metavar="DIR", help="Folder that holds grouped_K, or recordings.")]
Json = Annotated[Path | None, Option("--json", metavar="FILE", help="Write the results to this JSON file as well.")]
Devices = Annotated[int | None, Option(metavar="N", min=1, max=MAX_DEVICES, help="Number of devices (default: all).")]
KEYS = "Changes of configuration keys. There may be several, anywhere after the command."
Overrides = Annotated[Several, Argument(metavar="section.key=value", help=KEYS, show_default=False)]
Split = Annotated[Several, Option(metavar="SPLIT,..", help=f"{', '.join(SPLITS)} or all (default: all there are).")]
RUNS = "Only these session runs (default: all), written session:task:run, such as 1:Sherlock1:1."
SessionRuns = Annotated[Several, Option(metavar="RUN,..", help=RUNS)]
# What `all` and ranges of levels stand for, where the data decide which levels there are, and where the command does.
THERE = "levels that the data have"
MADE = "the published levels 5, 10, 15 and so on to 100"


def level_option(text: str, stand_for: str, panel: str | None = None) -> OptionInfo:
    """The option --level. text: what the levels are for.  stand_for: THERE, MADE or what `all` and ranges mean."""
    meaning = f"{text}; all, and ranges such as 5-100, stand for {stand_for}."
    return Option(metavar="K,..", help=meaning, rich_help_panel=panel)


def seed_option(text: str) -> OptionInfo:
    """The option --seed of a command that makes data. text: what the seed is of."""
    return Option(metavar="S", min=0, max=MAX_SEED, help=text)


def refuse_idle(ctx: Context, option: str, came: str, wanted: str) -> None:
    """UserError: an option is on the command line that would do nothing, as `came` says."""
    source = ctx.get_parameter_source(option.removeprefix("--").replace("-", "_"))
    if source is not None and source.name == "COMMANDLINE":
        raise UserError(option, f"{came}, where it would do nothing", wanted, f"leave out {option}")
