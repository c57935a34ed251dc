"""Saliency over time, and as maps of magnetometers and gradiometers over the head where mne is installed."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from demega_jax.data.acquisition import Acquisition
from demega_jax.errors import install, warn
from demega_jax.evaluation.report.figure import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, bare, new_figure

COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
UNKNOWN = Acquisition()
MAPS = 5  # parts of the window, of which each has a map
HEAD = 0.095  # metres, the radius of mne's standard head


def draw_saliency(
    saliency: Float[np.ndarray, "C T"],
    rows: int,
    sample_rate: float,
    tmin: float = 0.0,
    measured: Acquisition = UNKNOWN,
) -> Figure:
    """The mean over sensors of a type by time after onset; of the 306 published sensors, with mne (extra `topo`), also
    maps of five parts of it.

    rows: that it is the mean of.  sample_rate: in Hz.  tmin: the time of the first point in seconds.  measured: the
    types of the sensors.
    """
    triplets = measured.in_triplets(len(saliency))
    maps = triplets and importlib.util.find_spec("mne") is not None
    if triplets and not maps:
        warn(f"the maps of the saliency are left out: they need mne; {install('topo')}")
    kinds = _kinds(saliency) if triplets else _by_type(saliency, measured.sensor_types)
    figure = new_figure(7, 5.4 if maps else 3.2)
    grid = figure.add_gridspec(3 if maps else 1, MAPS if maps else 1, height_ratios=(1.3, 1, 1) if maps else None)
    axes = figure.add_subplot(grid[0, :])
    time = 1000 * (tmin + np.arange(saliency.shape[1]) / sample_rate)
    for (name, values), color in zip(kinds.items(), COLORS, strict=False):
        axes.plot(time, values.mean(axis=0), color=color, linewidth=1.6, label=name)
    axes.set_xlim(time[0], time[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time after onset (ms)")
    axes.set_ylabel("|d log p / d x| (nats)")
    axes.set_title(f"Saliency, mean over sensors and n = {rows:,} rows", fontsize=11)
    axes.legend(frameon=False, fontsize=8.5)
    bare(axes)
    if maps:
        for row, (name, values) in enumerate(kinds.items(), 1):
            _maps(figure, [figure.add_subplot(grid[row, part]) for part in range(MAPS)], name, values, time)
    return figure


def _kinds(saliency: Float[np.ndarray, "C T"]) -> dict[str, Float[np.ndarray, "102 T"]]:
    """The saliency at the 102 places: of the magnetometer, and the root mean square of the two gradiometers."""
    triplets = saliency.reshape(-1, 3, saliency.shape[-1])
    return {"magnetometers": triplets[:, 2], "gradiometers": np.sqrt(np.mean(triplets[:, :2] ** 2, axis=1))}


def _by_type(saliency: Float[np.ndarray, "C T"], types: Sequence[str]) -> dict[str, Float[np.ndarray, "n T"]]:
    """The saliency of the sensors of each type; of all together, where there is one type or none is known."""
    if len(set(types)) < 2:
        return {"all sensors": saliency}
    return {kind: saliency[np.array(types) == kind] for kind in dict.fromkeys(types)}


def places() -> Float[np.ndarray, "102 2"]:
    """The places of the triplets, seen from above with the nose upwards, in metres around the middle of the head."""
    from mne.channels import read_layout

    layout = read_layout("Vectorview-mag")
    ordered = layout.pos[np.argsort(layout.names)]
    centres = ordered[:, :2] + ordered[:, 2:] / 2
    centres = centres - (centres.max(axis=0) + centres.min(axis=0)) / 2
    return centres / np.linalg.norm(centres, axis=1).max() * HEAD


def _maps(
    figure: Figure, row: list[Any], name: str, values: Float[np.ndarray, "102 T"], time: Float[np.ndarray, " T"]
) -> None:
    """A map for each part of the window, all on one scale."""
    from mne.viz import plot_topomap

    parts = [part.mean(axis=1) for part in np.array_split(values, MAPS, axis=1)]
    limits = (0.0, float(np.max(parts)) or 1.0)
    for axes, part, times in zip(row, parts, np.array_split(time, MAPS), strict=True):
        look = {"cmap": "cividis", "vlim": limits, "sphere": HEAD, "contours": 0, "sensors": False, "res": 128}
        image, _ = plot_topomap(part, places(), axes=axes, show=False, **look)
        axes.set_title(f"{times[0]:.0f} to {times[-1]:.0f} ms", fontsize=8.5)
    row[0].set_ylabel(name, fontsize=9)
    figure.colorbar(image, ax=row, shrink=0.8, label="nats", pad=0.02, aspect=12)
