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

# (kind, segment, onset, duration) of a line of the table. Its column `idx` counts phonemes, unknown words and silences.
_Row = tuple[str, str, float, float]


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
    groups = [_silence(0.0, LEAD)]
    for word in words:
        if word.unknown:
            groups += _spoken(["oov_S"], word, "oov")
        else:
            names = [PHONEMES[i] for i in labels[len(onsets) : len(onsets) + len(word.onsets)]]
            onsets += word.onsets
            # The position in the word of each phoneme: begin, inside, end, or single.
            positions = "S" if len(names) == 1 else f"B{'I' * (len(names) - 2)}E"
            segments = [f"{name}_{place}" for name, place in zip(names, positions, strict=True)]
            groups += _spoken(segments, word, "".join(names))
        if word.pause:
            groups.append(_silence(word.end, word.pause))
    lines = [
        f"{index}\t{kind}\t{segment}\t{onset:.4f}\t{duration:.4f}"
        for index, group in enumerate(groups)
        for kind, segment, onset, duration in group
    ]
    return Speech(np.array(onsets, np.float64), labels, "\n".join([HEADER, *lines, ""]))


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


def _spoken(segments: list[str], word: _Word, name: str) -> list[list[_Row]]:
    """The rows of each phoneme of a word; the word itself is beside its first phoneme."""
    onsets = word.onsets[: len(segments)]
    rows: list[list[_Row]] = [
        [("phoneme", segment, onset, stop - onset)]
        for segment, onset, stop in zip(segments, onsets, (*onsets[1:], word.end), strict=True)
    ]
    rows[0].append(("word", name, onsets[0], word.end - onsets[0]))
    return rows


def _silence(onset: float, duration: float) -> list[_Row]:
    """The rows of a silence, which aligners also list as a phoneme."""
    return [("phoneme", "sil", onset, duration), ("silence", "silence", onset, duration)]
