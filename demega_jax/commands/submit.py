"""`demega-jax submit`: the CSV file that a LibriBrain or PNPL competition takes, written or checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demega_jax.api.models import Asked
from demega_jax.api.paths import check_outputs, check_replaced, check_there
from demega_jax.api.shown import status_line
from demega_jax.commands.shared.options import Force, refuse_idle
from demega_jax.commands.shared.predicting import (
    Denoise,
    EnsembleOption,
    Seed,
    Tta,
    ValidationData,
    check_idle,
)
from demega_jax.commands.shared.process import prepare_process
from demega_jax.commands.shared.word_options import (
    OF_2026,
    Answers,
    Apostrophe,
    Competition,
    IndexColumn,
    Ranks,
    Secondary,
    SecondaryVocabulary,
    Track,
    Vocabulary,
    WordOptions,
)
from demega_jax.errors import UserError, counted
from demega_jax.names import MAX_COUNT
from demega_jax.saying import say

if TYPE_CHECKING:
    from demega_jax.data.split import Split
    from demega_jax.evaluation.model import Model

EXAMPLES = """demega-jax submit runs/first --holdout holdout.pt --output submission.csv

demega-jax submit --check submission.csv

demega-jax submit runs/words --competition 2026 --track deep --holdout data --vocabulary words.csv --output deep.csv"""

Runs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RUN", help="Folders of training runs, whose models are combined; or a stack.", show_default=False
    ),
]
Holdout = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="The holdout: segments [N, 306, 125] in a .pt, .npy, .npz or grouped file; of 2026, a folder.",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="The CSV file to write.")]
Check = Annotated[Path | None, typer.Option("--check", metavar="FILE", help="Check this CSV file instead.")]
Rows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_COUNT,
        help="Rows that --check expects (default: 2382; of 2026, those of --holdout).",
    ),
]


def command(
    ctx: typer.Context,
    runs: Runs = None,
    holdout: Holdout = None,
    output: Output = None,
    competition: Competition = "2025",
    ensemble: EnsembleOption = "mean",
    data: ValidationData = None,
    tta: Tta = False,
    seed: Seed = 0,
    denoise: Denoise = False,
    check: Check = None,
    rows: Rows = None,
    track: Track = None,
    vocabulary: Vocabulary = None,
    index_column: IndexColumn = "index",
    apostrophe: Apostrophe = "keep",
    ranks: Ranks = "highest",
    secondary: Secondary = None,
    secondary_vocabulary: SecondaryVocabulary = None,
    answers: Answers = None,
    force: Force = False,
) -> int:
    """Predict the holdout and write a checked submission, or check one with --check."""
    if check is not None:
        for option in ("--ensemble", "--data", "--tta", "--seed", "--denoise", "--secondary", "--force"):
            refuse_idle(ctx, option, "given beside --check", "--check FILE alone, or with --rows")
        if runs or output or (holdout and competition == "2025"):
            way_out = "leave out --check to write a submission, or everything else to check one"
            raise UserError("--check", "given beside what writes a submission", "only one of the two", way_out)
        check_there(check, "a submission", folder=False)
    else:
        for option in ("--rows", "--answers"):
            refuse_idle(ctx, option, "given without --check", "--check FILE beside it")
        check_idle(ctx, method=ensemble, tta=tta)
    asked = Asked(ensemble, seed if tta else None, denoise)
    if competition == "2026":
        words = WordOptions(holdout, track, vocabulary, secondary_vocabulary, index_column, apostrophe, ranks)
        if check is not None:
            _check_words(check, words, rows, answers)
        else:
            _write_words(ctx, words, runs, secondary, output, data, asked, force=force)
        return 0
    for option in OF_2026:
        refuse_idle(ctx, option, "given for the competition of 2025", "--competition 2026 beside it")
    if check is not None:
        _check(check, rows)
        return 0
    if not runs or holdout is None or output is None:
        raise _lacks("RUN" if not runs else "--holdout" if holdout is None else "--output")
    check_outputs(output)
    from demega_jax.evaluation.submission import HEAD_LINE

    check_replaced(output, lambda head: head.startswith(HEAD_LINE.encode()), force=force)
    check_there(holdout, "the file of the holdout", folder=False)
    _write(ctx, runs, holdout, output, data, asked)
    return 0


def _lacks(name: str) -> UserError:
    way_out = "write `demega-jax submit RUN --holdout FILE --output FILE.csv`, or `demega-jax submit --check FILE`"
    return UserError("submit", f"no {name}", "runs, a holdout and an output", way_out)


def _check(path: Path, rows: int | None) -> None:
    from demega_jax.evaluation.submission import SEGMENTS, check_submission

    found = check_submission(path, rows=rows or SEGMENTS)
    say(f"{path}: a valid submission of {counted(len(found), 'row')}")


def _check_words(path: Path, words: WordOptions, rows: int | None, answers: Path | None) -> None:
    words.check()
    assert words.vocabulary is not None  # which is checked
    if answers is not None:
        check_there(answers, "a CSV file of answers: id,label", folder=False)
    if rows is not None and words.holdout is not None:
        raise UserError("--rows", "given beside --holdout", "only one of the two", "leave out one of them")
    from demega_jax.api.submit_words import check_words, layout_of

    layout = layout_of(words.vocabulary, words.secondary_vocabulary, words.index_column, words.apostrophe)
    check_words(path, layout, rows=rows, holdout=words.holdout, track=words.track, ranks=words.ranks, answers=answers)


def _write_words(
    ctx: typer.Context,
    words: WordOptions,
    runs: list[Path] | None,
    secondary: list[Path] | None,
    output: Path | None,
    data: str | None,
    asked: Asked,
    *,
    force: bool,
) -> None:
    if not runs or output is None or words.holdout is None:
        raise _lacks("RUN" if not runs else "--output" if output is None else "--holdout")
    words.check()
    assert words.track is not None and words.vocabulary is not None  # which is checked
    check_outputs(output)
    if bool(secondary) != (words.secondary_vocabulary is not None):
        here, lacks = "--secondary", "--secondary-vocabulary"
        here, lacks = (here, lacks) if secondary else (lacks, here)
        raise UserError(here, f"given without {lacks}", "both of them", f"add {lacks}, or leave out {here}")
    prepare_process(ctx.obj)
    from demega_jax.api.submit_words import Holdout, layout_of, submit_words
    from demega_jax.console import new_console

    layout = layout_of(words.vocabulary, words.secondary_vocabulary, words.index_column, words.apostrophe)
    check_replaced(output, lambda head: head.startswith(layout.head_line.encode()), force=force)
    where = Holdout(words.holdout, words.track, data)
    with status_line(new_console()) as tell:
        submit_words(output, runs, secondary or [], where, layout, words.ranks, asked, tell)


def _write(ctx: typer.Context, runs: list[Path], holdout: Path, output: Path, data: str | None, asked: Asked) -> None:
    prepare_process(ctx.obj)
    from demega_jax.api.prediction import opened
    from demega_jax.errors import warn
    from demega_jax.evaluation.submission import (
        SEGMENTS,
        phoneme_columns,
        warn_if_standardised_twice,
        write_submission,
    )

    def segments(model: "Model", _: Asked) -> "Split":
        from demega_jax.data.open import open_input

        found = open_input(holdout, "test", model.config.data, classes=model.classes, expect_shape=model.window)
        if not found.rows:
            raise UserError(holdout, "it holds no window", "the windows of the holdout", "give another --holdout")
        warn_if_standardised_twice(found)
        if found.rows != SEGMENTS:
            warn(f"{holdout} has {counted(found.rows, 'segment')}, and the published holdout has {SEGMENTS:,}")
        return found

    with opened(runs, segments, data, asked) as prediction:
        write_submission(output, phoneme_columns(prediction.probabilities(), prediction.classes, runs[0]))
    say(f"{output}: a valid submission of {counted(prediction.rows.rows, 'row')}, {prediction.models}")
