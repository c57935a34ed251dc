"""The holdout of the PNPL competition of 2026: single windows of one second, one for each word that was heard.

Each subject has two .npz files: whole sentences, out of which a window is cut at the onset of every word, and words on
their own. The order of the rows decides the rows of a submission, and is that of the competition's public library
`pnpl`: subjects by their number, sentences before words on their own, and in a file the order in which it stores them.
"""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.lib.npyio import NpzFile

from demega_jax.data.acquisition import Acquisition
from demega_jax.data.arrays import opened_npz
from demega_jax.data.grouped import check_window
from demega_jax.data.rows import check_finite
from demega_jax.data.split import UNKNOWN, RowNumbers, RowReader, Rows, Split, WindowShape
from demega_jax.errors import UserError, counted, did_you_mean, listed
from demega_jax.names import MAX_RATE

Track = Literal["deep", "broad"]
SUBJECTS: dict[Track, range] = {"deep": range(1), "broad": range(1, 40)}
FOLDER = "COMPETITION_HOLDOUT"
SENTENCES, WORDS = "holdout01_sentence", "holdout2_word"
SECONDS = 1.0  # of a window

AGAIN = "download the holdout again"


@dataclasses.dataclass(frozen=True, eq=False)
class HoldoutFile:
    """Where the windows of a file begin. of [n]: the sentence, or stored window, of each; start [n]: its time point.

    rate: in Hz.  window: (sensors, time points) of each of its windows.
    """

    path: Path
    rate: float
    window: tuple[int, int]
    of: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class WordHoldout(Split):
    """The windows of the files of a track, one after the other. Their labels are not known."""

    files: tuple[HoldoutFile, ...]

    def reader(self) -> RowReader:
        """Reads rows, with the windows of one file in memory at a time."""
        return HoldoutRows(self)


def open_word_holdout(
    folder: Path, track: Track, *, classes: Sequence[str] = (), expect_shape: WindowShape | None = None
) -> WordHoldout:
    """The windows of a track, of which only the onsets are read yet.

    folder: that of the download, or its folder COMPETITION_HOLDOUT.  classes: of the model.  expect_shape: as for
    `open_grouped`.  UserError: a file is missing or cannot be read, a window does not lie within its sentence, or files
    differ in sampling rate, sensors or time points.
    """
    inside = folder / FOLDER
    inside = inside if inside.is_dir() else folder
    names = [f"subj{subject:02d}_{kind}.npz" for subject in SUBJECTS[track] for kind in (SENTENCES, WORDS)]
    _check_all_there(inside, names, track)
    files = tuple(_open_file(inside / name) for name in names)
    first = files[0]
    for file in files[1:]:
        if (file.rate, file.window) != (first.rate, first.window):
            came = f"windows of {_described(file)}, and {first.path.name} has {_described(first)}"
            raise UserError(file.path, came, "the same in all files", AGAIN)
    check_window(inside, *first.window, expect_shape)
    rows = sum(len(file.of) for file in files)
    return WordHoldout(
        path=inside,
        name=track,
        level=1,
        sensors=first.window[0],
        time_points=first.window[1],
        classes=tuple(classes),
        labels=np.full(rows, UNKNOWN, np.int32),
        acquisition=Acquisition(sampling_rate=first.rate, tmin=0.0),
        files=files,
    )


def _check_all_there(folder: Path, names: Sequence[str], track: Track) -> None:
    """UserError: the file of a subject is not there."""
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    there = sorted(path.name for path in folder.glob("*.npz")) if len(missing) == len(names) else []
    more = "" if len(missing) == 1 else f", nor {len(missing) - 1} others"
    wanted = f"the two files of each subject of the track {track}, {names[0]} to {names[-1]}"
    way_out = did_you_mean(missing[0], there, "give the folder that holds them, or download the rest")
    raise UserError(folder, f"no file {missing[0]}{more}", wanted, way_out)


def _described(file: HoldoutFile) -> str:
    return f"{file.window[0]} sensors x {file.window[1]} time points at {file.rate:g} Hz"


def _open_file(path: Path) -> HoldoutFile:
    """The windows of a file. Only what is small is read of it, and no array that is not named here."""
    with opened_npz(path) as file:
        rate = _number(path, file, "sfreq")
        if not 0 < rate <= MAX_RATE:
            raise UserError(path, f"`sfreq` of {rate:g}", "a sampling rate in Hz", AGAIN)
        length = round(SECONDS * rate)
        count, sensors, time_points = _shape_of_meg(path, file)
        if path.stem.endswith(SENTENCES):
            of, start = _words_of_sentences(path, file, (count, time_points), rate, length)
        else:
            tmin = _number(path, file, "tmin")
            if abs(tmin) * rate >= 0.5:
                raise UserError(path, f"`tmin` of {tmin:g} s", "windows that begin at the onset of the word", AGAIN)
            if time_points < length:
                came = f"windows of {time_points} time points at {rate:g} Hz"
                raise UserError(path, came, f"{length}, for {SECONDS:g} s", AGAIN)
            of, start = np.arange(count), np.zeros(count, np.int64)
    return HoldoutFile(path, rate, (sensors, length), of, start)


def _words_of_sentences(
    path: Path, file: NpzFile, size: tuple[int, int], rate: float, length: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Sentence and first time point of each word's window. size: sentences, and time points with padding.

    UserError: a word has no onset, or its window does not lie within its sentence.
    """
    sentences, time_points = size
    mask, onsets = _array(path, file, "word_mask", "b", 2), _array(path, file, "word_onsets_s", "fiu", 2)
    times = _array(path, file, "sentence_n_times", "fiu", 1)
    if len(mask) != sentences or mask.shape != onsets.shape or len(times) != sentences:
        came = f"`word_mask` of shape {list(mask.shape)}, `word_onsets_s` of {list(onsets.shape)} and "
        came += f"`sentence_n_times` of {list(times.shape)}, for {counted(sentences, 'sentence')}"
        raise UserError(path, came, "the same number of sentences and words in all of them", AGAIN)
    of, word = np.nonzero(mask)  # sentence by sentence, and in each the words in their order
    onset = onsets[of, word].astype(np.float64)
    # An onset that is no number becomes a place before the sentence, which is refused as such.
    start = np.where(np.isfinite(onset), np.round(onset * rate), -1).clip(-1, 2**40).astype(np.int64)
    end = np.minimum(np.where(np.isfinite(times), times, 0)[of], time_points)
    wrong = np.flatnonzero((start < 0) | (start + length > end))
    if len(wrong):
        at = wrong[0]
        which = f"the window of word {word[at]} of sentence {of[at]}, with its onset at {onset[at]:g} s"
        came = f"{which}, does not lie within the {end[at]:g} time points of the sentence"
        raise UserError(path, came, f"{length} time points after the onset of every word", AGAIN)
    return of, start


def _shape_of_meg(path: Path, file: NpzFile) -> tuple[int, int, int]:
    """The shape of the array `meg`, of which nothing else is read. UserError: it does not hold windows."""
    _check_named(path, file, "meg")
    assert file.zip is not None  # while the file is open
    with file.zip.open("meg.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    if len(shape) != 3 or dtype.kind != "f":
        came = f"`meg` of type {dtype} and shape {list(shape)}"
        raise UserError(path, came, "numbers of shape [windows or sentences, sensors, time points]", AGAIN)
    return shape


def _check_named(path: Path, file: NpzFile, name: str) -> None:
    if name not in file.files:
        raise UserError(path, f"no array `{name}`, but {listed(file.files) or 'none'}", "a file of the holdout", AGAIN)


def _array(path: Path, file: NpzFile, name: str, kinds: str, axes: int) -> np.ndarray:
    _check_named(path, file, name)
    found = file[name]
    if found.dtype.kind not in kinds or found.ndim != axes:
        came = f"`{name}` of type {found.dtype} and shape {list(found.shape)}"
        wanted = f"{'true or false' if kinds == 'b' else 'numbers'} with {axes} axes"
        raise UserError(path, came, wanted, AGAIN)
    return found


def _number(path: Path, file: NpzFile, name: str) -> float:
    """One finite number, which may be stored as an array of one."""
    _check_named(path, file, name)
    found = file[name]
    if found.dtype.kind not in "fiu" or found.size != 1 or not np.isfinite(found).all():
        raise UserError(path, f"`{name}` of type {found.dtype} and shape {list(found.shape)}", "one number", AGAIN)
    return float(found.item())


class HoldoutRows:
    """Windows of the files of a holdout. The last file stays in memory, so that rows are best read in order."""

    def __init__(self, split: WordHoldout):
        self._split = split
        self._ends = np.cumsum([len(file.of) for file in split.files])
        self._lock = threading.Lock()
        self._open: tuple[int, Float[np.ndarray, "n C S"]] | None = None

    def read(self, rows: RowNumbers, out: Rows | None = None) -> Rows:
        """The rows in the order asked for, in float32. UserError: a value is not finite, or a file cannot be read."""
        split = self._split
        out = np.empty((len(rows), *split.window), split.dtype) if out is None else out
        number = np.searchsorted(self._ends, rows, side="right")
        with self._lock:
            for each in np.unique(number):
                file, meg = split.files[each], self._meg(int(each))
                for place in np.flatnonzero(number == each):
                    row = rows[place] - (self._ends[each] - len(file.of))
                    start = file.start[row]
                    window = meg[file.of[row], :, start : start + split.time_points]
                    with np.errstate(over="ignore"):  # becomes an infinity, which the check finds
                        out[place] = window
                    check_finite(file.path, np.array([row]), out[place : place + 1])
        return out

    def _meg(self, number: int) -> Float[np.ndarray, "n C S"]:
        """The array of a file; that of another is let go before it is read."""
        if self._open is None or self._open[0] != number:
            self._open = None
            with opened_npz(self._split.files[number].path) as file:
                self._open = number, file["meg"]
        return self._open[1]
