"""Invented speech: words of phonemes, their onsets, and the table of events that describes them."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from demega_jax.data.simulate.grouped import split_labels
from demega_jax.phonemes import PHONEMES

HEADER = "idx\tkind\tsegment\ttimemeg\tduration"
LEAD = 0.3  # s of silence before the first word
# Together these give 8.5 phonemes/s, as in LibriBrain (1.6 million in 52 h).
MORE_PHONEMES = 2.6  # mean number of phonemes of a word after the first
SHORTEST_PHONEME, PHONEME_SCALE = 0.03, 0.0305  # s; a phoneme lasts the shortest time plus a gamma variable of order 2
PAUSE_SHARE, SHORTEST_PAUSE, PAUSE_SCALE = 0.12, 0.25, 0.55  # share of words with a pause after them; s; s
UNKNOWN_SHARE = 0.004  # share of words that the aligner does not know


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """Phonemes in order of time, and the events file, which also lists silence and words.

    onset [E]: s, float64, rounded as in the table.  label [E]: places in `PHONEMES`.  table: tab separated.
    """

    onset: Float[np.ndarray, " E"]
    label: Int[np.ndarray, " E"]
    table: str


@dataclasses.dataclass(frozen=True)
class _Word:
    """onsets: of its phonemes (s).  end: s.  unknown: it has no phonemes in the table.  pause: s after it."""

    onsets: tuple[float, ...]
    end: float
    unknown: bool
    pause: float


def draw_speech(seconds: float, tail: float, rng: np.random.Generator) -> Speech:
    """Speech for a recording of `seconds`. There is no onset in the last `tail` s.

    Every phoneme occurs in proportion to its frequency in English, and at least once if there are enough places. Their
    order is random.
    """
    words = _draw_words(seconds - tail, rng)
    count = sum(len(word.onsets) for word in words if not word.unknown)
    labels = rng.permutation(split_labels(PHONEMES, count))
    onsets: list[float] = []
    rows = _Rows()
    rows.silence(0.0, LEAD)
    for word in words:
        if word.unknown:
            rows.word([("oov_S", word.onsets[0])], word.end, "oov")
        else:
            names = [PHONEMES[i] for i in labels[len(onsets) : len(onsets) + len(word.onsets)]]
            onsets += word.onsets
            segments = [f"{name}_{position}" for name, position in zip(names, _positions(len(names)), strict=True)]
            rows.word(list(zip(segments, word.onsets, strict=True)), word.end, "".join(names))
        if word.pause:
            rows.silence(word.end, word.pause)
    return Speech(np.array(onsets, np.float64), labels, "\n".join([HEADER, *rows.lines, ""]))


def _draw_words(end: float, rng: np.random.Generator) -> list[_Word]:
    words: list[_Word] = []
    time = LEAD
    while True:
        length = 1 + rng.poisson(MORE_PHONEMES)
        # Times have four decimals, as in the table, so that readers find exactly these samples.
        steps = np.round(SHORTEST_PHONEME + rng.gamma(2, PHONEME_SCALE, length), 4)
        pause = round(SHORTEST_PAUSE + rng.exponential(PAUSE_SCALE), 4) if rng.random() < PAUSE_SHARE else 0.0
        times = np.round(time + np.concatenate([[0.0], steps.cumsum()]), 4).tolist()
        if times[-1] > end:
            return words
        words.append(_Word(tuple(times[:-1]), times[-1], rng.random() < UNKNOWN_SHARE, pause))
        time = round(times[-1] + pause, 4)


def _positions(length: int) -> str:
    """The position in the word of each phoneme: begin, inside, end, or single."""
    return "S" if length == 1 else f"B{'I' * (length - 2)}E"


class _Rows:
    """The lines of the table. The column `idx` counts phonemes, unknown words and silences."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def word(self, segments: list[tuple[str, float]], end: float, name: str) -> None:
        """The word and its phonemes. segments: (segment, onset) of each."""
        stops = [onset for _, onset in segments[1:]] + [end]
        for i, ((segment, onset), stop) in enumerate(zip(segments, stops, strict=True)):
            self._add("phoneme", segment, onset, stop - onset)
            if i == 0:
                self._add("word", name, onset, end - onset)
            self._count += 1

    def silence(self, onset: float, duration: float) -> None:
        """A silence, which aligners also list as a phoneme."""
        self._add("phoneme", "sil", onset, duration)
        self._add("silence", "silence", onset, duration)
        self._count += 1

    def _add(self, kind: str, segment: str, onset: float, duration: float) -> None:
        self.lines.append(f"{self._count}\t{kind}\t{segment}\t{onset:.4f}\t{duration:.4f}")
