"""`demega-jax import`: grouped files from windows in .npz, HDF5 or Epochs files."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Context, Option

from demega_jax.api.lists import share
from demega_jax.api.paths import check_out, check_there
from demega_jax.commands.shared.options import Several, refuse_idle, seed_option
from demega_jax.errors import UserError, counted
from demega_jax.names import MAX_LEVEL, MAX_RATE
from demega_jax.saying import say

EXAMPLES = """demega-jax import windows.npz data --rate 500 --unit fT

demega-jax import trials.h5 data --windows x --labels word --groups run

demega-jax import subject01-epo.fif data --split-shares 0.7,0.15,0.15"""
FILE = "Windows: .npz (x, labels, classes), HDF5 (.h5, .hdf5), or Epochs of MNE (.fif, extra mne)."
WINDOWS = "Array of the windows [rows, sensors, time points] (default: x or data)."
LABELS = "Array, or metadata column of .fif, of the labels (default: labels or y; the events of .fif)."
CLASSES = "Names of the classes, by number (default: those of the file, or else the different labels)."
SPLIT = "Write all rows as train, validation or test (default: draw splits by --split-shares)."
SHARES = "Shares of train, validation and test (default: 0.8,0.1,0.1), drawn within each class or by --groups."
GROUPS = (
    "Array, or metadata column of .fif, such as run or subject: its rows go to one split (default: each row alone)."
)
LEVEL = "Number of windows that each row of FILE is the mean of."
GROUP = "Average K windows of one class in each row, as `demega-jax group` does (default: rows as they are)."
DROP = "With --group: leave out groups of fewer than K windows."
RATE = "Sampling rate (default: that of the file)."
UNIT = "Unit of the values, such as fT (default: that of the file)."
TYPE = "Type of all sensors, as in MNE: mag, grad, eeg (default: those of the file)."
KEEP = "Keep the T, T/m and V of a .fif file, which are too small for training (default: fT, fT/cm, uV)."
DEFAULT_SHARES = (0.8, 0.1, 0.1)
# What the arguments of `write_grouped` are called here, in errors.
OPTIONS = {
    "split": "--split",
    "shares": "--split-shares",
    "classes": "--classes",
    "level": "--level",
    "group": "--group",
    "drop_remaining": "--drop-remaining",
    "write_grouped": "the file, --rate, --unit or --sensor-type",
}
OF_THE_FILE = ("x", "labels", "groups", "epochs")


def command(
    ctx: Context,
    file: Annotated[Path, Argument(metavar="FILE", help=FILE)],
    out: Annotated[Path, Argument(metavar="OUT", help="Folder to write grouped_K into.")],
    windows: Annotated[str | None, Option(metavar="NAME", help=WINDOWS)] = None,
    labels: Annotated[str | None, Option(metavar="NAME", help=LABELS)] = None,
    classes: Annotated[Several, Option(metavar="NAME,..", help=CLASSES)] = None,
    split: Annotated[Literal["train", "validation", "test"] | None, Option(metavar="SPLIT", help=SPLIT)] = None,
    split_shares: Annotated[Several, Option(metavar="SHARE,..", help=SHARES)] = None,
    groups: Annotated[str | None, Option(metavar="NAME", help=GROUPS)] = None,
    seed: Annotated[int, seed_option("Seed of the draw of splits, and of the shuffle in --group.")] = 777,
    level: Annotated[int, Option(metavar="K", min=1, max=MAX_LEVEL, help=LEVEL)] = 1,
    group: Annotated[int | None, Option(metavar="K", min=1, max=MAX_LEVEL, help=GROUP)] = None,
    drop_remaining: Annotated[bool, Option("--drop-remaining", help=DROP)] = False,
    rate: Annotated[float | None, Option(metavar="HZ", max=MAX_RATE, help=RATE)] = None,
    unit: Annotated[str | None, Option(metavar="UNIT", help=UNIT)] = None,
    sensor_type: Annotated[str | None, Option(metavar="TYPE", help=TYPE)] = None,
    keep_units: Annotated[bool, Option("--keep-units", help=KEEP)] = False,
) -> int:
    """Write windows of your own as grouped files, which every command reads."""
    if split is not None:
        if split_shares is not None:
            raise UserError("--split-shares", "given beside --split", "only one of the two", "leave one of them out")
        if groups is not None:
            raise UserError("--groups", "given beside --split", "splits that are drawn", "leave one of them out")
        if group is None:
            refuse_idle(ctx, "--seed", "given with --split, and without --group", "something to draw")
    if keep_units and not file.name.lower().endswith((".fif", ".fif.gz")):
        raise UserError("--keep-units", f"given for {file.name}", "a .fif file", "leave out --keep-units")
    shares = None if split is not None else [share(text) for text in split_shares or map(str, DEFAULT_SHARES)]
    check_there(file, "a file of windows", folder=False)
    check_out(out)
    from demega_jax.data.own.files import ImportSettings, import_file

    facts: dict[str, Any] = {"sampling_rate": rate, "units": unit, "sensor_types": sensor_type}
    settings = ImportSettings(
        windows=windows,
        labels=labels,
        groups=groups,
        classes=classes,
        split=split,
        shares=shares,
        seed=seed,
        level=level,
        group=group,
        drop_remaining=drop_remaining,
        scale=not keep_units,
        facts={name: value for name, value in facts.items() if value is not None},
    )
    try:
        paths = import_file(file, out, settings)
    except UserError as error:
        place = f"{file}, {error.where}" if error.where in OF_THE_FILE else OPTIONS.get(error.where, error.where)
        raise UserError(place, error.came, error.wanted, error.way_out) from None
    _describe(paths)
    return 0


def _describe(paths: list[Path]) -> None:
    """Print what was written, and what to do next."""
    from demega_jax.data.grouped import open_grouped

    for path in paths:
        found = open_grouped(path)
        rows = counted(found.rows, "row")
        say(f"wrote {path}: {rows} of {found.sensors} x {found.time_points}, {len(found.classes)} classes")
    if told := found.acquisition.describe():
        say(f"sensors {told}")
    say(f"next  demega-jax inspect {paths[0].parent.parent}")
