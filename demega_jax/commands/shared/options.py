"""Options that several commands have, and checks of their values."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option
from typer.models import OptionInfo

from demega_jax.errors import UserError
from demega_jax.names import MAX_COUNT, MAX_DEVICES, MAX_SEED, SPLITS

# The items of an option that takes a list, see `lists.py`.
Several = list[str] | None

DATA = "Folder that holds grouped_K, or recordings (default: the key data.path)."
Data = Annotated[str | None, Option(metavar="DIR", help=DATA)]
Json = Annotated[Path | None, Option("--json", metavar="FILE", help="Write the results to this JSON file as well.")]
FORCE = "Replace a file that is there, whatever it is. Without it, only one that this command wrote is replaced."
Force = Annotated[bool, Option("--force", help=FORCE)]
Devices = Annotated[int | None, Option(metavar="N", min=1, max=MAX_DEVICES, help="Number of devices (default: all).")]
KEYS = "Changes of configuration keys. There may be several, anywhere after the command."
Overrides = Annotated[Several, Argument(metavar="section.key=value", help=KEYS, show_default=False)]
Split = Annotated[Several, Option(metavar="SPLIT,..", help=f"{', '.join(SPLITS)} or all (default: all there are).")]
RUNS = "Only these session runs (default: all), written session:task:run, such as 1:Sherlock1:1."
SessionRuns = Annotated[Several, Option(metavar="RUN,..", help=RUNS)]
SPLITS_FILE = (
    "Table (.tsv, .csv) with the columns run and split, or a JSON list of them; or a splits.json, as --split-shares "
    'writes, which can also assign chapters: {"format": 1, "chapters": {"Sherlock1/11": "validation"}, '
    '"others": "train"} (default: the published splits).'
)
TMIN, TMAX = (f"{which} of a window, in seconds after the onset." for which in ("Begin", "End"))
# Recordings whose windows are not those of phonemes.
OTHER = "Other events and rates"
EVENTS = "Rows of the events that have windows (default: kind=phoneme), such as kind=word, or all rows: all."
LABEL = "Column of their labels (default: segment)."
CLASSES = (
    "Table (.tsv, .csv) with the columns label and class. Several labels may have one class; events with other labels "
    "are left out (default: each label is a class)."
)
TOP = "The N most frequent labels of train are the classes (default: the phonemes; of other events, all labels)."
EventRows = Annotated[str | None, Option(metavar="COLUMN=VALUE|all", help=EVENTS, rich_help_panel=OTHER)]
EventLabel = Annotated[str | None, Option(metavar="COLUMN", help=LABEL, rich_help_panel=OTHER)]
ClassesFile = Annotated[Path | None, Option(metavar="FILE", help=CLASSES, rich_help_panel=OTHER)]
TopLabels = Annotated[int | None, Option(metavar="N", min=2, max=MAX_COUNT, help=TOP, rich_help_panel=OTHER)]
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
