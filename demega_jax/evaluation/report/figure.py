"""Figures without pyplot, in colours that colour-blind readers can tell apart, as PNG, SVG or PDF files."""

import io
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from demega_jax.errors import UserError
from demega_jax.files import atomic_write
from demega_jax.names import PICTURES

# The colours of Okabe and Ito (2008), which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
PURPLE, SKY = "#CC79A7", "#56B4E9"
DPI = 120
SMALL, LETTER, LINE = 6, 0.05, 0.1  # of a stamp: points of its letters; inches of a letter's width, and of a line
Write = Callable[[Path, str], AbstractContextManager[Path]]
LONGEST_NAME = 20  # letters of a class that a figure shows
NO_DATE: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot, hence without global state and display. width, height: in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def stamp(figure: Figure, text: str) -> None:
    """Write in small letters, upwards along the right edge, what a figure is of and how it came about.

    It stands beside all else, so that a legend at the bottom or a title at the top never covers it.
    """
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, max(20, int(height / LETTER)))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # as `new_figure` makes it
    engine.set(rect=(0, 0, 1 - (LINE * len(lines) + 0.04) / width, 1))
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(1 - 0.04 / width, 0.5, shown, rotation=90, ha="right", va="center", fontsize=SMALL, color=GREY)


def save_figure(figure: Figure, path: Path, dpi: int = DPI, write: Write = atomic_write) -> Path:
    """Write a figure by an atomic write, as its ending says: .png, .svg or .pdf; returns its path.

    write: `output` for a path that the user names.
    dpi: dots per inch of a PNG, and of the pictures within an SVG or a PDF.  UserError: another ending, or it cannot be
    written.
    """
    ending = path.suffix.removeprefix(".").lower()
    if ending not in PICTURES:
        wanted = "a file that ends in " + ", ".join(f".{name}" for name in PICTURES)
        raise UserError(path, "an ending that is not known", wanted, "choose another name")
    with write(path, "free space, or choose another folder") as aside, aside.open("wb") as file:
        _save(figure, file, ending, dpi)
    return path


def svg_of(figure: Figure, dpi: int = DPI) -> bytes:
    """A figure as the content of an SVG file. dpi: of the pictures within it."""
    file = io.BytesIO()
    _save(figure, file, "svg", dpi)
    return file.getvalue()


def _save(figure: Figure, file: IO[bytes], ending: str, dpi: int) -> None:
    """Text of a PDF stays text, and that of an SVG becomes outlines, which look the same everywhere.

    The same figure gives the same bytes. Its layout is found once, for all files.
    """
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "demega-jax"}):
        figure.savefig(file, format=ending, dpi=dpi, metadata=NO_DATE.get(ending))


def plain(name: str) -> str:
    """A name as a figure shows it: not too long, and never read as a formula."""
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return shown.replace("$", r"\$")


def bare(axes: Axes) -> None:
    """Leave out the box around axes, and draw a light grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
