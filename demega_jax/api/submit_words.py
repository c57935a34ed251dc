"""What `demega-jax submit --competition 2026` does: predict the holdout's words, write, check and score the file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from demega_jax.api.models import Asked
from demega_jax.api.prediction import Tell, opened
from demega_jax.errors import UserError, counted, listed, warn
from demega_jax.names import straight
from demega_jax.saying import say, say_result

if TYPE_CHECKING:
    from demega_jax.data.split import Split
    from demega_jax.data.word_holdout import Track
    from demega_jax.evaluation.model import Model
    from demega_jax.evaluation.word_answers import AnswerScores
    from demega_jax.evaluation.word_submission import Layout, Ranks


@dataclasses.dataclass(frozen=True)
class Holdout:
    """What is predicted. folder: the files of the holdout.  data: the folder with the validation split of weights."""

    folder: Path
    track: "Track"
    data: str | None


def layout_of(vocabulary: Path, secondary: Path | None, index: str, apostrophe: str) -> "Layout":
    """The layout of a submission for the vocabularies of two files. UserError: they cannot be read or spelt so."""
    from typing import cast

    from demega_jax.evaluation.vocabulary import WORDS, Apostrophe, read_vocabulary
    from demega_jax.evaluation.word_submission import IndexColumn, Layout

    words = read_vocabulary(vocabulary)
    if len(words) != WORDS:
        warn(f"{vocabulary} has {len(words)} words, and the published vocabulary has {WORDS}")
    more = () if secondary is None else read_vocabulary(secondary)
    layout = Layout(words, more, cast(IndexColumn, index), cast(Apostrophe, apostrophe))
    assert layout.header  # which is refused now, before minutes of work, where two words would be spelt the same
    return layout


def submit_words(
    output: Path,
    runs: Sequence[Path],
    secondary: Sequence[Path],
    holdout: Holdout,
    layout: "Layout",
    ranks: "Ranks",
    asked: Asked,
    tell: Tell,
) -> None:
    """Predict every word of a holdout and write a checked submission.

    secondary: the training runs of the secondary vocabulary, where there is one.  tell: shows how far it is.
    UserError: classes that are not the vocabulary, windows that do not fit the models, or no file can be written.
    """
    from demega_jax.evaluation.word_submission import lowest_first, write_word_submission

    p = _probabilities(runs, layout.words, holdout, asked, tell)
    more = _probabilities(secondary, layout.secondary, holdout, asked, tell) if secondary else None
    if ranks == "lowest":
        p = lowest_first(p)
    write_word_submission(output, layout, p, more)
    say_result(
        f"{output}: a valid submission of {counted(len(p), 'row')} for the track {holdout.track}, {_described(layout)}"
    )
    _say_traps(layout, ranks)


def _probabilities(
    runs: Sequence[Path], words: Sequence[str], holdout: Holdout, asked: Asked, tell: Tell
) -> Float[np.ndarray, "N V"]:
    """The probability of each word of a vocabulary for each window of the holdout."""
    from demega_jax.data.trained import check_windows
    from demega_jax.data.word_holdout import open_word_holdout
    from demega_jax.evaluation.vocabulary import columns_of

    def windows(model: "Model", _: Asked) -> "Split":
        columns_of(model.classes, words, model.name)  # which is refused now, before the rest is read
        rows = open_word_holdout(holdout.folder, holdout.track, classes=model.classes, expect_shape=model.window)
        if not rows.rows:
            raise UserError(holdout.folder, "it holds no word", "the words of the holdout", "give another --holdout")
        check_windows(rows, model.config.data)
        return rows

    with opened(runs, windows, holdout.data, asked) as prediction:
        return prediction.probabilities(tell)[:, columns_of(prediction.classes, words, runs[0])]


def check_words(
    path: Path,
    layout: "Layout",
    *,
    rows: int | None,
    holdout: Path | None,
    track: "Track | None",
    ranks: "Ranks",
    answers: Path | None,
) -> None:
    """Check a submission, and score it by a file of answers, where that is given. UserError: it is not valid.

    rows: how many it must have; None: as many as the words of the holdout, where that is given.
    """
    from demega_jax.evaluation.word_submission import check_word_submission

    if rows is None and holdout is not None and track is not None:
        from demega_jax.data.word_holdout import open_word_holdout

        rows = open_word_holdout(holdout, track).rows
    p = check_word_submission(path, layout, rows=rows)
    unknown = "" if rows is not None else "; add --holdout and --track, or --rows, to check their number"
    say_result(f"{path}: a valid submission of {counted(len(p), 'row')}, {_described(layout)}{unknown}")
    _say_traps(layout, ranks)
    if answers is not None:
        _score(p, answers, layout, ranks)


def _described(layout: "Layout") -> str:
    more = f" and {len(layout.secondary)} secondary ones" if layout.secondary else ""
    return f"{len(layout.words)} words{more}, first column `{layout.index}`"


def _say_traps(layout: "Layout", ranks: "Ranks") -> None:
    """Say what scorers of this competition were seen to want in another way."""
    from demega_jax.evaluation.vocabulary import without

    if layout.index == "index":
        say("A scorer that wants `id` as its first column needs --index-column id.")
    odd = [name for name in layout.header if name != without(name)]
    if odd:
        how = "a straight" if odd[0] == straight(odd[0]) else "a typographic"
        say(f"The column {odd[0]} has {how} apostrophe; a scorer that spells it in another way needs --apostrophe.")
    if ranks == "lowest":
        say("The smallest values are the best guesses, for a scorer that takes the ten smallest.")


def _score(p: Float[np.ndarray, "N V"], path: Path, layout: "Layout", ranks: "Ranks") -> None:
    from demega_jax.evaluation.word_answers import read_answers, score_answers

    answers = read_answers(path, len(p))
    found = score_answers(p, answers, layout.words, ranks=ranks, where=path)
    other = score_answers(p, answers, layout.words, ranks="lowest" if ranks == "highest" else "highest", where=path)
    for line in _score_lines(found):
        say_result(line)
    ours, theirs = _top(found), _top(other)
    if theirs > ours:
        kind = "smallest" if ranks == "highest" else "largest"
        warn(f"with the {kind} values as the best guesses the score is {theirs:.4f} instead of {ours:.4f}; see --ranks")


def _top(found: "AnswerScores") -> float:
    """The score of the competition; of 10 words or fewer, balanced accuracy."""
    at_10 = found.scores.balanced_accuracy_at_10
    return found.scores.balanced_accuracy if at_10 is None else at_10


def _score_lines(found: "AnswerScores") -> list[str]:
    scores = found.scores
    present, words = int((scores.support > 0).sum()), len(scores.classes)
    lines = [f"balanced accuracy        {scores.balanced_accuracy:.4f} (chance {1 / words:.4f})"]
    if scores.balanced_accuracy_at_10 is not None:
        lines.append(f"balanced accuracy at 10  {scores.balanced_accuracy_at_10:.4f} (chance {10 / words:.4f})")
    lines.append(f"over {counted(scores.rows, 'row')} of {present} of the {words} words")
    if found.outside:
        count = sum(found.outside.values())
        lines.append(
            f"not scored: {counted(count, 'row')} with a label outside the vocabulary ({listed(found.outside)})"
        )
    if found.unanswered:
        lines.append(f"not scored: {counted(found.unanswered, 'row')} without an answer")
    return lines
