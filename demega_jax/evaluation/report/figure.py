"""Figures without pyplot, in colours that colour-blind readers can tell apart, as PNG, SVG or PDF files."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from demega_jax.files import atomic_write

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot, hence without global state and display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, png: Path) -> Path:
    """Write a figure by an atomic write; returns its path. UserError: it cannot be written."""
    with atomic_write(png) as aside:
        figure.savefig(aside, format="png")
    return png
