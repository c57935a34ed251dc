"""The folder `report/`: figures as files, and the page that holds them."""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from demega_jax import __version__
from demega_jax.evaluation.report.figure import save_figure, stamp, svg_of
from demega_jax.evaluation.report.html import Picture
from demega_jax.files import write_text
from demega_jax.names import PICTURES
from demega_jax.training.hardware import machine_name

DPI = 300  # of PNG files, as papers ask for
PAGE = "index.html"


def write_folder(
    folder: Path,
    figures: Mapping[str, Figure],
    alts: Mapping[str, str],
    captions: Mapping[str, str],
    page_of: Callable[[Sequence[Picture]], str],
    *,
    of: str,
    formats: Sequence[str] = ("png",),
    known: Collection[str] = (),
) -> Path:
    """Write the figures and the page of a report anew; returns the page.

    alts, captions: of the figures by name.  of: what they show. Each of them says that with the machine and the date,
    so that it can be told where it came from when it lies elsewhere.  formats: of the figures, among `PICTURES`.
    known: names that the figures of an earlier report can have; its files that are not written again are removed.
    UserError: the folder cannot be written.
    """
    date = datetime.date.today().isoformat()
    for figure in figures.values():
        stamp(figure, f"{of}; demega-jax {__version__}, {date}, {machine_name()}")
    pictures = [
        Picture(name, svg_of(figure, 200), float(figure.get_figwidth()), alts[name], captions[name])
        for name, figure in figures.items()
    ]
    page = page_of(pictures)
    written = {
        save_figure(figure, folder / f"{name}.{ending}", DPI) for name, figure in figures.items() for ending in formats
    }
    write_text(folder / PAGE, page)
    for old in {folder / f"{name}.{ending}" for name in known for ending in PICTURES} - written:
        old.unlink(missing_ok=True)
    return folder / PAGE
