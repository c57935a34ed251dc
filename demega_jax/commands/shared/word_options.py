"""The options of `demega-jax submit` for the competition of 2026, and what they stand for together."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from demega_jax.api.paths import check_there
from demega_jax.errors import UserError

PANEL = "Competition of 2026"

Competition = Annotated[Literal["2025", "2026"], typer.Option(help="2025: LibriBrain's phonemes.  2026: PNPL's words.")]
Track = Annotated[
    Literal["deep", "broad"] | None, typer.Option(help="Subject 0, or subjects 1 to 39.", rich_help_panel=PANEL)
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The competition's vocabulary.csv: a line of words.", rich_help_panel=PANEL),
]
IndexColumn = Annotated[Literal["index", "id"], typer.Option(help="Name of the first column.", rich_help_panel=PANEL)]
Apostrophe = Annotated[
    Literal["keep", "straight", "none"],
    typer.Option(help="How columns spell apostrophes: as the vocabulary, as ', or not.", rich_help_panel=PANEL),
]
Ranks = Annotated[
    Literal["highest", "lowest"],
    typer.Option(help="Whether the likeliest word has the largest or the smallest value.", rich_help_panel=PANEL),
]
Secondary = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RUN", help="A training run of the secondary vocabulary; may be repeated.", rich_help_panel=PANEL
    ),
]
SecondaryVocabulary = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The secondary vocabulary: moses-vocabulary.csv.", rich_help_panel=PANEL),
]
Answers = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Score what --check checks by this CSV file: id,label.", rich_help_panel=PANEL),
]
OF_2026 = (
    *("--track", "--vocabulary", "--index-column", "--apostrophe", "--ranks", "--secondary", "--secondary-vocabulary"),
    "--answers",
)


@dataclasses.dataclass(frozen=True)
class WordOptions:
    """What --check and the writing of a submission both need."""

    holdout: Path | None
    track: Literal["deep", "broad"] | None
    vocabulary: Path | None
    secondary_vocabulary: Path | None
    index_column: Literal["index", "id"]
    apostrophe: Literal["keep", "straight", "none"]
    ranks: Literal["highest", "lowest"]

    def check(self) -> None:
        """UserError: there is no vocabulary, a file is not there, or --holdout and --track are not given together."""
        if self.vocabulary is None:
            way_out = "add --vocabulary vocabulary.csv, which the competition publishes"
            raise UserError("--competition 2026", "no --vocabulary", "the words in their order", way_out)
        for path in (self.vocabulary, self.secondary_vocabulary):
            if path is not None:
                check_there(path, "a vocabulary: a line of words", folder=False)
        if (self.holdout is None) != (self.track is None):
            here, lacks = ("--track", "--holdout") if self.holdout is None else ("--holdout", "--track")
            way_out = "add --holdout FOLDER" if self.holdout is None else "add --track deep or --track broad"
            raise UserError(here, f"given without {lacks}", "both of them", way_out)
        if self.holdout is not None:
            check_there(self.holdout, "the folder with the files of the holdout", folder=True)
