"""How windows were measured: sampling rate, sensors and events, as the attributes of a grouped file or a manifest say.

Attributes of a grouped file, each of them optional: sampling_rate (Hz), tmin (s), sensor_names, sensor_types and units
(a text for each sensor), sensor_positions (metres, [C, 3]), event_rows, event_label and event_classes (texts).
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from demega_jax.data.hdf5 import MOST_ATTRIBUTE_BYTES, write_names
from demega_jax.errors import UserError, listed
from demega_jax.names import MAX_RATE, MAX_SECONDS, PUBLISHED_SENSORS

MAGNETOMETER = "mag"  # a sensor type as MNE writes it
TEXTS = ("sensor_names", "sensor_types", "units")
EVENTS = ("event_rows", "event_label", "event_classes")


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How windows were measured; None, or empty: not known.

    sampling_rate: in Hz.  tmin: of the first time point, in seconds after the event.  sensor_names, sensor_types (as in
    MNE: mag, grad, eeg), units: a text for each sensor.  sensor_positions: x, y and z of each sensor in metres.
    event_rows: the events that windows follow, as for `group --events`, such as kind=word.  event_label: the column of
    their labels.  event_classes: where a table names the class of each label, the fingerprint of this table.
    """

    sampling_rate: float | None = None
    tmin: float | None = None
    sensor_names: tuple[str, ...] = ()
    sensor_types: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    sensor_positions: tuple[tuple[float, ...], ...] = ()
    event_rows: str | None = None
    event_label: str | None = None
    event_classes: str | None = None

    @property
    def magnetometers(self) -> tuple[int, ...] | None:
        """The numbers of the magnetometers, from 0; None: the types of the sensors are not known."""
        if not self.sensor_types:
            return None
        return tuple(number for number, kind in enumerate(self.sensor_types) if kind == MAGNETOMETER)

    def in_triplets(self, sensors: int) -> bool:
        """Whether there are the 306 sensors of the published system, and their types, where known, are in its order."""
        published = tuple(range(2, PUBLISHED_SENSORS, 3))
        return sensors == PUBLISHED_SENSORS and self.magnetometers in (None, published)

    def stated(self) -> dict[str, Any] | None:
        """What is known, as JSON holds it, by the arguments of `acquisition`; None where nothing is."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found = {name: value for name, value in known.items() if value not in (None, ())}
        return json.loads(json.dumps(found)) or None

    def describe_events(self) -> str:
        """The events, in a few words; empty where they are not known."""
        if self.event_rows is None:
            return ""
        label = "" if self.event_label is None else f", with labels of the column {self.event_label}"
        table = "" if self.event_classes is None else f", and classes of the table {self.event_classes}"
        return f"{self.event_rows}{label}{table}"

    def describe(self) -> str:
        """What is known of time and sensors, in a few words; empty where nothing is."""
        parts = [f"{self.sampling_rate:g} Hz"] if self.sampling_rate is not None else []
        parts += [f"from {1000 * self.tmin:g} ms on"] if self.tmin is not None else []
        kinds = {kind: self.sensor_types.count(kind) for kind in dict.fromkeys(self.sensor_types)}
        parts += [" + ".join(f"{count} {kind}" for kind, count in kinds.items())] if kinds else []
        parts += [f"in {listed(dict.fromkeys(self.units))}"] if self.units else []
        parts += ["with names"] if self.sensor_names else []
        parts += ["with positions"] if self.sensor_positions else []
        return ", ".join(parts)


def acquisition(
    where: object,
    sensors: int,
    *,
    sampling_rate: object = None,
    tmin: object = None,
    sensor_names: Sequence[str] | None = None,
    sensor_types: Sequence[str] | str | None = None,
    units: Sequence[str] | str | None = None,
    sensor_positions: object = None,
    event_rows: object = None,
    event_label: object = None,
    event_classes: object = None,
) -> Acquisition:
    """An `Acquisition` of checked values. A single type or unit is that of all sensors.

    where: of the values, for errors.  UserError: one is not what it should be.
    """
    texts = dict(zip(TEXTS, (sensor_names, sensor_types, units), strict=True))
    found = {name: _texts(where, name, value, sensors) for name, value in texts.items()}
    if len(set(found["sensor_names"])) < len(found["sensor_names"]):
        raise UserError(where, "sensor_names that repeat a name", "a different name for each sensor", "correct them")
    return Acquisition(
        _number(where, "sampling_rate", sampling_rate, (0.0, MAX_RATE)),
        _number(where, "tmin", tmin, (-MAX_SECONDS, MAX_SECONDS)),
        found["sensor_names"],
        found["sensor_types"],
        found["units"],
        _positions(where, sensor_positions, sensors),
        *(_text(where, *pair) for pair in zip(EVENTS, (event_rows, event_label, event_classes), strict=True)),
    )


def _number(where: object, name: str, value: object, bounds: tuple[float, float]) -> float | None:
    if value is None:
        return None
    array = np.asarray(value)
    number = float(array.item()) if array.size == 1 and array.dtype.kind in "iuf" else np.nan
    low, high = bounds
    if not low <= number <= high or (name == "sampling_rate" and number == 0):
        unit = "Hz" if name == "sampling_rate" else "s"
        wanted = f"a number above {low:g} and up to {high:g} ({unit})"
        raise UserError(where, f"{name}={array.tolist()!r}"[:80], wanted, f"correct {name}, or leave it out")
    return number


def _text(where: object, name: str, value: object) -> str | None:
    if value is None:
        return None
    array = np.asarray(value).ravel()
    found = array[0] if len(array) == 1 else None
    text = found.decode(errors="replace") if isinstance(found, bytes) else found
    if not isinstance(text, str) or not text or "\0" in text:
        came = f"{name} with {len(array)} values of type {array.dtype}"
        raise UserError(where, came, "one text", f"correct {name}, or leave it out")
    return str(text)


def _texts(where: object, name: str, value: Sequence[str] | str | None, sensors: int) -> tuple[str, ...]:
    if value is None:
        return ()
    single = np.ndim(value) == 0  # also an array or an attribute that is one text
    if single:
        value = [np.asarray(value).item()] * (1 if name == "sensor_names" else sensors)
    texts = tuple(one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in value)
    if len(texts) != sensors or not all(texts) or any("\0" in text for text in texts):
        came = f"{name} of {len(texts)} texts ({listed(texts, 3)})"
        raise UserError(where, came, f"a text for each of {sensors} sensors", f"correct {name}, or leave it out")
    return texts


def _positions(where: object, value: object, sensors: int) -> tuple[tuple[float, ...], ...]:
    if value is None:
        return ()
    array = np.asarray(value)
    sound = array.shape == (sensors, 3) and array.dtype.kind in "iuf"
    if not sound or not np.isfinite(array).all():
        came = f"sensor_positions of shape {list(array.shape)}" + (" with values that are not finite" if sound else "")
        wanted = f"finite numbers [{sensors}, 3]: x, y and z of each sensor, in metres"
        raise UserError(where, came, wanted, "correct sensor_positions, or leave them out")
    if array.size * 4 > MOST_ATTRIBUTE_BYTES:
        wanted = f"at most {MOST_ATTRIBUTE_BYTES // 12} of them"
        raise UserError(where, f"sensor_positions of {sensors} sensors", wanted, "leave sensor_positions out")
    return tuple(tuple(row) for row in array.astype(np.float32).tolist())


def write_acquisition(file: h5py.File, found: Acquisition) -> None:
    """Write what is known as attributes of a grouped file."""
    for name in ("sampling_rate", "tmin"):
        if getattr(found, name) is not None:
            file.attrs[name] = getattr(found, name)
    for name in TEXTS:
        if getattr(found, name):
            write_names(file, name, getattr(found, name))
    for name in EVENTS:
        if (text := getattr(found, name)) is not None:
            write_names(file, name, [text])
    if found.sensor_positions:
        file.attrs["sensor_positions"] = np.array(found.sensor_positions, np.float32)


def read_acquisition(path: Path, file: h5py.File, sensors: int) -> Acquisition:
    """What the attributes of a grouped file say. UserError: one is not what it should be."""
    raw = {field.name: file.attrs.get(field.name) for field in dataclasses.fields(Acquisition)}
    for name in TEXTS:
        if raw[name] is not None:
            texts = np.atleast_1d(raw[name]).ravel().tolist()
            raw[name] = texts * sensors if len(texts) == 1 and name != "sensor_names" else texts
    return acquisition(path, sensors, **raw)


def check_same_acquisition(where: object, came: Acquisition, wanted: Acquisition, other: object) -> None:
    """UserError: two files that belong together were measured in different ways. What one does not say, passes."""
    for name, mine, others in differences(came, wanted):
        way_out = "give data of one kind: of the same events and begin, at one rate, with the same sensors in one order"
        raise UserError(where, f"{name} {mine}", f"{others}, as in {other}", way_out)


def same_number(one: float, other: float) -> bool:
    """Whether two rates or times are the same, of which one may have been kept in single precision."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


def differences(came: Acquisition, wanted: Acquisition) -> Iterator[tuple[str, str, str]]:
    """(name, value in one, value in the other) of what both state differently; of sensors, the first that differs."""
    if came.sampling_rate and wanted.sampling_rate and not same_number(came.sampling_rate, wanted.sampling_rate):
        yield "a sampling rate of", f"{came.sampling_rate:g} Hz", f"{wanted.sampling_rate:g} Hz"
    if came.tmin is not None and wanted.tmin is not None and not same_number(came.tmin, wanted.tmin):
        yield "windows that begin at", f"{came.tmin:g} s", f"{wanted.tmin:g} s after the event"
    if not _same_events(came, wanted):
        yield "windows of the events", came.describe_events(), wanted.describe_events()
    for name in TEXTS:
        pairs = zip(getattr(came, name), getattr(wanted, name), strict=False)
        for number, (mine, others) in enumerate(pairs):
            if mine != others:
                yield name, f"{mine!r} at sensor {number}", repr(others)
                break


def merged(found: Sequence[Acquisition]) -> Acquisition:
    """What any of several files that were measured in the same way says; the events are those of one of them."""
    of_events = next((each for each in found if each.event_rows is not None), found[0])
    known = {}
    for name in (field.name for field in dataclasses.fields(Acquisition) if field.name not in EVENTS):
        stated = (value for each in found if (value := getattr(each, name)) not in (None, ()))
        known[name] = next(stated, getattr(of_events, name))
    return dataclasses.replace(of_events, **known)


def _same_events(one: Acquisition, other: Acquisition) -> bool:
    """Whether the events are the same, as far as both state them."""
    if None in (one.event_rows, other.event_rows):
        return True
    labels = {one.event_label, other.event_label} - {None}
    return (one.event_rows, one.event_classes) == (other.event_rows, other.event_classes) and len(labels) < 2
