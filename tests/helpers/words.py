"""A tiny holdout of the competition of 2026, and what its rows are, by numpy alone."""

from pathlib import Path

import numpy as np

RATE, SENSORS = 9, 5  # a window has 9 time points
# Words of each sentence, as (onset in seconds, whether the word counts); time points of each sentence.
SENTENCES = [([(0.0, True), (0.5, False), (1.25, True)], 24), ([(2.0, True)], 30)]
ALONE = 3  # words on their own, of each subject


def write_subject(folder: Path, subject: int, *, rate: float = RATE, sensors: int = SENSORS, **changes) -> np.ndarray:
    """Write the two files of a subject; returns its windows in the order of rows. changes: arrays of both files.

    0.5 s at 9 Hz is 4.5, and 1.25 s is 11.25: the window begins at the nearest time point.
    """
    draw = np.random.default_rng(subject)
    meg = draw.standard_normal((2, sensors, 30)).astype(np.float32)
    meg[0, :, 24:] = 0  # padding
    onsets, mask = np.full((2, 3), np.nan), np.zeros((2, 3), bool)
    for sentence, (words, _) in enumerate(SENTENCES):
        for place, (onset, counts) in enumerate(words):
            onsets[sentence, place], mask[sentence, place] = onset, counts
    sentence = {
        "meg": meg,
        "sentence_n_times": np.array([24, 30]),
        "word_onsets_s": onsets,
        "word_mask": mask,
        "sfreq": np.float64(rate),
        "sentence_extra_end_s": 1.0,
        "shuffle_seed": np.array([{"an": "object"}], object),
    }
    alone = draw.standard_normal((ALONE, sensors, 9)).astype(np.float32)
    word = {"meg": alone, "sfreq": np.float64(rate), "tmin": np.float64(0), "tmax": np.float64(1)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"subj{subject:02d}_holdout01_sentence.npz", **sentence | changes.get("sentence", {}))
    np.savez(folder / f"subj{subject:02d}_holdout2_word.npz", **word | changes.get("word", {}))
    return np.stack([meg[0, :, :9], meg[0, :, 11:20], meg[1, :, 18:27], *alone])
