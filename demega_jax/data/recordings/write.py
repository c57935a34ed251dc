"""Session runs of a recording tree: from samples and events in memory, or from blocks as another reader gives them."""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from demega_jax.data.acquisition import Acquisition, acquisition, write_acquisition
from demega_jax.data.checksums import SENSORS
from demega_jax.data.hdf5 import Disk, atomic_h5
from demega_jax.data.recordings.events import NO_LABEL, ONSET, TIME
from demega_jax.data.recordings.runs import RunName
from demega_jax.errors import UserError, counted, listed
from demega_jax.files import atomic_write, expanded, format_bytes, free_space
from demega_jax.reading import open_plain

BLOCK = 1 << 15  # samples that are written at a time


def write_recording(
    folder: str | Path,
    data: ArrayLike | h5py.Dataset,
    events: Mapping[str, Sequence[object]] | str | Path,
    *,
    sampling_rate: float,
    task: str,
    subject: str = "0",
    session: str = "1",
    run: str = "1",
    sensor_names: Sequence[str] | None = None,
    sensor_types: Sequence[str] | str | None = None,
    sensor_positions: ArrayLike | None = None,
) -> Path:
    """Write a session run into a recording tree, for `group` and the regroup feed, and return the path of its samples.

    folder: of the tree; other session runs may be there.  data [C, n]: n samples of C sensors, in tesla (T/m of
    gradiometers) or any other unit, as `group` standardises each sensor; written in float32.
    events: the columns of the table of events, by name, each with a value for every event; or a tab-separated file. A
    column `timemeg` or `onset` has seconds from the first sample; the others say what an event is. Phonemes have `kind`
    phoneme, and `segment` such as ah_B. Events of other kinds have any columns: `group --events kind=word --label word`
    chooses among them.
    sampling_rate: in Hz.  task, subject, session, run: the name of the session run, such as Sherlock1, 0, 11, 2.
    sensor_names: a text for each sensor.  sensor_types: a text for each sensor, or one for all, as in MNE, such as mag
    and grad.  sensor_positions [C, 3]: in metres.
    UserError: values that are not finite, or of another shape; a name with `_`, `/` or a dot in front; columns of
    different lengths, or without a time; a file that exists; a full disk. A session run is written whole or not at all.
    """
    name = _run_name(subject=subject, session=session, task=task, run=run)
    meg, table = name.paths(Path(expanded(str(folder))))
    check_new(meg, table)
    x = data if isinstance(data, h5py.Dataset) else np.asarray(data)
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "iuf":
        came = f"an array of type {x.dtype} and shape {list(x.shape)}"
        raise UserError("data", came, "numbers [sensors, samples]", "give the samples of each sensor as a row")
    known = acquisition(
        "write_recording",
        len(x),
        sampling_rate=sampling_rate,
        sensor_names=sensor_names,
        sensor_types=sensor_types,
        sensor_positions=sensor_positions,
    )
    if known.sampling_rate is None:
        raise UserError("sampling_rate", "None", "the sampling rate of the samples in Hz", "give sampling_rate")
    blocks = (_finite(x[:, begin : begin + BLOCK]) for begin in range(0, x.shape[1], BLOCK))
    write_session((meg, table), _table(events), blocks, x.shape, known.sampling_rate, known)
    return meg


def check_new(*paths: Path) -> None:
    """UserError: a file of a session run is there already."""
    for path in paths:
        if path.exists():
            way_out = "choose another folder, or move that session run away"
            raise UserError(path, "the file exists", "no file of this name", way_out)


def write_session(
    paths: tuple[Path, Path],
    table: bytes,
    blocks: Iterable[Float[np.ndarray, "C n"]],
    shape: tuple[int, ...],
    rate: float,
    known: Acquisition,
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Write the two files of a session run, in float32. paths: of the samples and of the events.

    table: the content of the events.  blocks: stretches of time, one after the other.  shape: sensors and samples.
    rate: in Hz.  known: of the sensors.  attributes: others, of the file of samples.  UserError: a full disk.
    """
    meg, events = paths
    need, free = shape[0] * shape[1] * 4, free_space(meg)
    if need > free:
        wanted = f"{format_bytes(need)} for these samples"
        raise UserError(meg, f"{format_bytes(free)} are free", wanted, "free some space, or choose another folder")
    was_there = events.exists()
    try:
        with atomic_h5(meg) as (file, disk):
            write_acquisition(file, dataclasses.replace(known, sampling_rate=None))  # which has another name here
            file.attrs.update(sample_frequency=rate, **(attributes or {}))
            write_samples(file, disk, blocks, shape, rate)
            with atomic_write(events) as part:
                part.write_bytes(table)
    except BaseException:
        if not was_there:  # else events without samples would stay
            events.unlink(missing_ok=True)
        raise


def write_samples(
    file: h5py.File, disk: Disk, blocks: Iterable[Float[np.ndarray, "C n"]], shape: tuple[int, ...], rate: float
) -> h5py.Dataset:
    """Write the dataset `data`, the checksum of each sensor, and the times in seconds. shape: sensors and samples."""
    data = file.create_dataset("data", shape, np.float32)
    sums, begin = [0] * shape[0], 0
    for x in blocks:
        data[:, begin : begin + x.shape[1]] = x
        sums = [zlib.crc32(np.ascontiguousarray(row).data, before) for row, before in zip(x, sums, strict=True)]
        begin += x.shape[1]
        disk.check()
    file.create_dataset(SENSORS, data=np.array(sums, np.uint32))
    file.create_dataset("times", data=np.arange(shape[1]) / rate)
    return data


def _run_name(**parts: str) -> RunName:
    """The name of a session run. UserError: a part cannot stand in the name of its files."""
    for key, value in parts.items():
        if not str(value) or str(value).startswith(".") or any(sign in str(value) for sign in "_/\0"):
            wanted = "a text without _ and /, and without a dot in front, such as Sherlock1"
            raise UserError(key, repr(value), wanted, f"choose another {key}")
    return RunName(**{key: str(value) for key, value in parts.items()})


def _finite(x: ArrayLike) -> Float[np.ndarray, "C n"]:
    """Samples in float32. UserError: values that float32 does not have."""
    with np.errstate(over="ignore"):
        found = np.asarray(x).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist()
    if bad:
        came = f"values that are not finite in sensor {listed(bad)}"
        raise UserError("data", came, "finite numbers in every sensor", "replace them, or leave these sensors out")
    return found


def _cell(value: object) -> str:
    """The text of a value. NaN, as pandas has it where there is no value, is none."""
    return NO_LABEL if value is None or (isinstance(value, float | np.floating) and np.isnan(value)) else str(value)


def _table(events: Mapping[str, Sequence[object]] | str | Path) -> bytes:
    """The table of events as tab-separated text. UserError: columns that do not fit together, or none with times."""
    if isinstance(events, str | Path):
        path = Path(expanded(str(events)))
        try:
            with open_plain(path) as file:
                return file.readall() or b""
        except OSError as error:
            came = f"it cannot be read ({error.strerror or error})"
            raise UserError(path, came, "a tab-separated table of events", "correct the path") from None
    columns = {name: [_cell(cell) for cell in cells] for name, cells in events.items()}
    lengths = {name: len(cells) for name, cells in columns.items()}
    if not {TIME, ONSET} & columns.keys() or len(set(lengths.values())) != 1:
        came = listed((f"{name} of {counted(length, 'value')}" for name, length in lengths.items()), 20) or "no column"
        wanted = f"columns of one length, of which one is {TIME} or {ONSET}"
        raise UserError("events", came, wanted, "give each event a value in every column")
    lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    wrong = [cell for line in lines for cell in line if any(sign in cell for sign in "\t\r\n")]
    if wrong:
        raise UserError("events", repr(wrong[0]), "texts without tabs and line breaks", "replace them by blanks")
    return "".join("\t".join(line) + "\n" for line in lines).encode()
