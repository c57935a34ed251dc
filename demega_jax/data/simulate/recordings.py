"""Simulated recordings of continuous speech in the published format, with the model of the simulated grouped files."""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from demega_jax.data.checksums import EVENTS
from demega_jax.data.hdf5 import atomic_h5
from demega_jax.data.recordings.runs import OFFICIAL, RunName
from demega_jax.data.recordings.write import write_samples
from demega_jax.data.simulate.generative import SAMPLE_RATE, SESSIONS, GenerativeModel, generative_model
from demega_jax.data.simulate.grouped import check_least
from demega_jax.data.simulate.speech import Speech, draw_speech
from demega_jax.errors import UserError, counted
from demega_jax.files import format_bytes, free_space, visible, write_text

PROCESSING = "proc-bads+headpos+sss+notch+bp+ds_meg.h5"
SHORTEST, LONGEST = 10.0, 2400.0  # s of a session run: the shortest has every phoneme, the longest fits into memory
HELD_OUT_SHARE, HELD_OUT_LONGEST = 1 / 8, 1320.0  # of the time; s (as long as the published session runs)
TASKS = 7  # Sherlock1 .. Sherlock7
BLOCK = 1 << 15  # samples that are drawn at a time, which bounds the memory
FILTER = 1 << 12  # samples: 16 s are longer than the correlation of noise that is flat below 1 Hz
# Standard deviation of the noise in a gradiometer (tesla per m) and a magnetometer (tesla), and the standard deviation
# of its logarithm over the sensors of a type.
GRADIOMETER, MAGNETOMETER, SENSOR_SPREAD = 4e-12, 2.5e-13, 0.2


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A session run to write.

    samples: at 250 Hz.  session: of the model, whose gain and offset it has.  number: seeds its random numbers.
    """

    name: RunName
    samples: int
    session: int
    number: int


def simulate_recordings(
    out: Path,
    *,
    minutes: float,
    sensors: int = 306,
    time_points: int = 125,
    seed: int = 0,
    runs: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write a recording tree and return the paths of its recordings, in the order of `plan_runs`.

    minutes: of all session runs together.  time_points: length of a phoneme's response, in samples of 1/250 s.
    runs: number of session runs, with that of validation and that of test; None: as many as needed.  progress: called
    with a line of text for the plan and for each session run.
    A recording is tesla * (gain * (responses + noise) + offset). At each phoneme's onset its template begins, and is
    added to the templates of its neighbours. The noise is that of the model in space and time, and continuous. Words
    are random sequences of phonemes, so that averaged windows hold a phoneme's template and a part that is the same
    for all phonemes. Equal arguments give equal `data` and events.
    UserError: impossible arguments, a tree that is there already, too little space. Nothing is written then.
    """
    out = Path(out)
    plan = _checked_plan(out, minutes, sensors, time_points, seed, runs)
    size = format_bytes(_nbytes(plan, sensors))
    progress(f"{counted(len(plan), 'session run')}, {minutes:g} minutes of {sensors} sensors, {size}, into {out}")
    model = generative_model(sensors=sensors, time_points=time_points, seed=seed)
    scale = sensor_scale(sensors, seed)
    for run in plan:
        meg, events = run.name.paths(out, PROCESSING)
        bits = np.random.SeedSequence(seed, spawn_key=(2, run.number))
        for_speech, for_noise = (np.random.default_rng(child) for child in bits.spawn(2))
        speech = draw_speech(run.samples / SAMPLE_RATE, time_points / SAMPLE_RATE, for_speech)
        write_text(events, speech.table)
        signal = draw_signal(model, speech, run.samples, run.session, for_noise)
        attributes = {"seed": seed, EVENTS: np.uint32(zlib.crc32(events.read_bytes()))}
        _write_recording(meg, signal, run.samples, scale, attributes)
        progress(f"wrote {run.name}: {run.samples / SAMPLE_RATE / 60:.2f} minutes, {len(speech.label)} phonemes")
    return [run.name.paths(out, PROCESSING)[0] for run in plan]


def plan_runs(minutes: float, runs: int | None = None) -> list[PlannedRun]:
    """The session runs of train, then that of validation and that of test, with their published names.

    Validation and test have an eighth of the time each, at least 10 s and at most 22 minutes. The session runs of train
    have equal lengths; by default there are two, or more to keep each below 40 minutes.
    UserError: too little time, or a number of session runs that does not fit.
    """
    total = round(minutes * 60 * SAMPLE_RATE) if math.isfinite(minutes) else 0
    shortest, longest = int(SHORTEST * SAMPLE_RATE), int(LONGEST * SAMPLE_RATE)
    if total < 3 * shortest:
        least = f"{3 * SHORTEST / 60:g}"
        why = f"each of three session runs needs {SHORTEST:g} s to hold every phoneme"
        raise UserError("--minutes", f"{minutes:g}", f"at least {least}, as {why}", f"use --minutes {least} or more")
    held_out = max(shortest, min(int(total * HELD_OUT_SHARE), int(HELD_OUT_LONGEST * SAMPLE_RATE)))
    train = total - 2 * held_out
    fewest, most = -(-train // longest), train // shortest
    count = max(min(2, most), fewest) if runs is None else runs - 2
    if not fewest <= count <= most:
        limits = f"{fewest + 2} to {most + 2} for {minutes:g} minutes"
        why = f"as session runs of train last {SHORTEST:g} to {LONGEST:g} s"
        raise UserError("--runs", f"{runs}", f"{limits}, {why}", "omit --runs, or give such a number")
    names = [RunName("0", str(1 + i // TASKS), f"Sherlock{1 + i % TASKS}", "1") for i in range(count)]
    lengths = [train // count + (i < train % count) for i in range(count)]
    planned = [*zip(names, lengths, strict=True), *((name, held_out) for name in OFFICIAL)]
    return [PlannedRun(name, samples, i % SESSIONS, i) for i, (name, samples) in enumerate(planned)]


def sensor_scale(sensors: int, seed: int) -> Float[np.ndarray, " C"]:
    """Standard deviation of each sensor's noise in tesla (gradiometers: per m); every third one is a magnetometer."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    typical = np.where(np.arange(sensors) % 3 == 2, MAGNETOMETER, GRADIOMETER)
    return typical * np.exp(SENSOR_SPREAD * rng.standard_normal(sensors))


def noise_filter(length: int = FILTER) -> Float[np.ndarray, " L"]:
    """A causal filter that gives white noise the spectrum of `generative.autocovariance` and variance 1."""
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    response = np.roll(np.fft.irfft(1 / np.sqrt(np.maximum(frequency, 1.0)), length), length // 2)
    return response / np.linalg.norm(response)


def draw_noise(sensors: int, samples: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "C n"]]:
    """Noise of variance 1 of independent sensors, float32, in blocks of time, continuous from block to block.

    The method is overlap-save: a block is filtered together with the white noise before it, and the samples that the
    circular convolution spoils are dropped.
    """
    response = noise_filter()
    memory = len(response) - 1
    past = rng.standard_normal((sensors, memory), dtype=np.float32)
    for start in range(0, samples, BLOCK):
        count = min(BLOCK, samples - start)
        white = np.concatenate([past, rng.standard_normal((sensors, count), dtype=np.float32)], axis=1)
        size = 1 << (white.shape[1] - 1).bit_length()
        spectrum = np.fft.rfft(white, size, axis=1)
        spectrum *= np.fft.rfft(response, size).astype(np.complex64)
        past = white[:, count:]
        yield np.fft.irfft(spectrum, size, axis=1)[:, memory : memory + count]


def draw_signal(
    model: GenerativeModel, speech: Speech, samples: int, session: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "C n"]]:
    """A session run in units of the model (noise of a standard deviation of about 1), float32, in blocks of time."""
    _, sensors, length = model.templates.shape
    spatial = model.spatial.astype(np.float32)
    onset = np.floor(speech.onset * SAMPLE_RATE).astype(np.int64)
    begin = 0
    for noise in draw_noise(sensors, samples, rng):
        x = spatial @ noise
        end = begin + x.shape[1]
        for i in range(np.searchsorted(onset, begin - length, "right"), np.searchsorted(onset, end)):
            first, last = max(onset[i], begin), min(onset[i] + length, end)
            response = model.templates[speech.label[i], :, first - onset[i] : last - onset[i]]
            x[:, first - begin : last - begin] += response
        x *= np.float32(model.session_gain[session])
        x += model.session_offset[session].astype(np.float32)[:, None]
        yield x
        begin = end


def _write_recording(
    path: Path,
    signal: Iterator[Float[np.ndarray, "C n"]],
    samples: int,
    scale: Float[np.ndarray, " C"],
    attributes: Mapping[str, object],
) -> None:
    """Write one recording block by block, with the attributes `channel_means` and `channel_stds` of published files."""
    total, squares = np.zeros(len(scale)), np.zeros(len(scale))

    def scaled() -> Iterator[Float[np.ndarray, "C n"]]:
        for x in signal:
            total[:] += x.sum(axis=1, dtype=np.float64)
            squares[:] += np.square(x, dtype=np.float64).sum(axis=1)
            x *= scale.astype(np.float32)[:, None]
            yield x

    with atomic_h5(path) as (file, disk):
        data = write_samples(file, disk, scaled(), (len(scale), samples), SAMPLE_RATE)
        mean = total / samples
        data.attrs["channel_means"] = scale * mean
        data.attrs["channel_stds"] = scale * np.sqrt(squares / samples - mean**2)
        file.attrs.update(sample_frequency=SAMPLE_RATE, simulated=True, **attributes)


def _checked_plan(
    out: Path, minutes: float, sensors: int, time_points: int, seed: int, runs: int | None
) -> list[PlannedRun]:
    """The plan of the session runs. UserError: it cannot be carried out."""
    check_least(sensors, time_points, seed)
    longest = int(SHORTEST * SAMPLE_RATE / 2)
    if time_points > longest:
        way_out = f"use --time-points {longest} or fewer"
        raise UserError("--time-points", f"{time_points}", f"at most {longest} (5 s)", way_out)
    plan = plan_runs(minutes, runs)
    present = next(visible(out, "*/derivatives"), None)
    if present is not None:
        came = f"holds recordings or events ({present.relative_to(out)})"
        raise UserError(out, came, "a folder without recordings", "choose another folder, or move them away")
    need, free = _nbytes(plan, sensors), free_space(out)
    if need > free:
        came, wanted = f"{format_bytes(free)} are free", f"{format_bytes(need)} of free space"
        raise UserError(out, came, wanted, "free some space, or use fewer --minutes or --sensors")
    return plan


def _nbytes(plan: Sequence[PlannedRun], sensors: int) -> int:
    return sum(run.samples for run in plan) * (4 * sensors + 8)
