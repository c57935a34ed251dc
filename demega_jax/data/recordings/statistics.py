"""Statistics of the session runs of train, which standardise every split. They are kept in a cache folder."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.recordings.runs import Recording
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.files import cache_folder, write_text
from demega_jax.reading import read_json

CLIP = 10.0  # standardised samples are limited to +-10
READ_SENSORS = 16  # sensors of a recording that are read at a time
FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """mean [C] and std [C] of each sensor in tesla, float64 (population standard deviation)."""

    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]

    def standardise(self, x: Float[np.ndarray, "C n"], sensors: slice = slice(None)) -> Float[np.ndarray, "C n"]:
        """(x - mean) / std clipped to +-10, in place; x: float32, of these sensors. A constant sensor becomes 0."""
        std = np.where(self.std > 0, self.std, 1.0)[sensors]
        mean = self.mean[sensors]
        for row, m, s in zip(x, mean, std, strict=True):  # one sensor at a time stays in the processor's cache
            row -= np.float32(m)
            row /= np.float32(s)
            np.clip(row, -CLIP, CLIP, out=row)
        return x


StatisticsOf = Callable[[], Statistics]  # computed at the first call, from the session runs of train


def pooled(parts: Sequence[tuple[int, Float[np.ndarray, " C"], Float[np.ndarray, " C"]]]) -> Statistics:
    """Statistics of all session runs from (samples, mean, std) of each: variance within them plus variance between."""
    samples = np.array([part[0] for part in parts], np.float64)[:, None]
    means, stds = (np.array([part[i] for part in parts], np.float64) for i in (1, 2))
    total = samples.sum()
    mean = (samples * means).sum(axis=0) / total
    variance = (samples * (stds**2 + (means - mean) ** 2)).sum(axis=0) / total
    return Statistics(mean, np.sqrt(variance))


def statistics(recordings: Sequence[Recording], progress: Callable[[str], None] | None = None) -> Statistics:
    """Pooled statistics of session runs. Each is read once and its statistics are cached. Warns of constant sensors."""
    known = {recording: _read_cache(_cache_file(recording), recording) for recording in recordings}
    new = [recording for recording, found in known.items() if found is None]
    for number, recording in enumerate(new):
        if progress is not None:
            progress(f"statistics of {recording.name} ({number + 1} of {len(new)})")
        known[recording] = measured = _measure(recording)
        _write_cache(_cache_file(recording), recording, measured)
    together = pooled([(recording.samples, *found) for recording, found in known.items() if found is not None])
    constant = np.flatnonzero(together.std == 0).tolist()
    if constant:
        count = counted(len(constant), "sensor", "are")
        warn(f"{count} constant in the session runs of train, and 0 after it: {listed(constant)}")
    return together


def _measure(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) of each sensor, float64.

    The file's own attributes `channel_means` and `channel_stds` are not used: they can be older than its data.
    """
    mean, std = np.empty(recording.sensors), np.empty(recording.sensors)
    memory = np.empty((min(READ_SENSORS, recording.sensors), recording.samples), np.float32)
    for first in range(0, recording.sensors, READ_SENSORS):
        some = slice(first, min(first + READ_SENSORS, recording.sensors))
        block = recording.read(some, memory[: some.stop - first])
        for sensor, row in enumerate(block, first):  # one sensor at a time stays in the processor's cache
            mean[sensor] = row.mean(dtype=np.float64)
            away = row - mean[sensor]  # float64
            std[sensor] = np.sqrt(np.square(away, out=away).mean()) if row.min() < row.max() else 0.0
    return mean, std


def _cache_file(recording: Recording) -> Path | None:
    """The file of the cache for a recording, named by a hash of its path, size and time of change; None: no cache."""
    status = recording.meg.stat()
    text = f"{recording.meg.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    text += f"\n{recording.rate}" if recording.stored is not None else ""  # the numbers of another rate are others
    folder = cache_folder("statistics")
    return None if folder is None else folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _checksum(mean: Float[np.ndarray, " C"], std: Float[np.ndarray, " C"]) -> int:
    return zlib.crc32(np.ascontiguousarray(std).data, zlib.crc32(np.ascontiguousarray(mean).data))


def _read_cache(cache: Path | None, recording: Recording) -> tuple[np.ndarray, np.ndarray] | None:
    if cache is None:
        return None
    try:
        known = read_json(cache)
        mean, std = np.array(known["mean"], np.float64), np.array(known["std"], np.float64)
        whole = known["format"] == FORMAT and mean.shape == std.shape == (recording.sensors,)
        whole &= known.get("crc32") in (None, _checksum(mean, std))  # older files have none
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: measure again
    return (mean, std) if whole else None


def _write_cache(cache: Path | None, recording: Recording, known: tuple[np.ndarray, np.ndarray]) -> None:
    if cache is None:
        return
    content = {"format": FORMAT, "run": str(recording.name), "crc32": _checksum(*known)}
    text = json.dumps(content | {"mean": known[0].tolist(), "std": known[1].tolist()})
    try:
        write_text(cache, text)
    except UserError as error:
        warn(f"the cache {cache.parent} {error.came}, so the statistics are measured again each time")
