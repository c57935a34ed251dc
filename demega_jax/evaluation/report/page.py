"""One HTML page that ties a report together. Its figures are within it: it needs no network and no other file."""

import base64
import dataclasses
import importlib.resources
import string
from collections.abc import Iterable, Sequence
from html import escape

from demega_jax.evaluation.ensemble_report import EnsembleReport
from demega_jax.evaluation.report.intervals import ScoreIntervals
from demega_jax.evaluation.report.page_tables import class_rows, model_rows, score_rows
from demega_jax.metrics import Scores

METHOD = (
    "All scores are computed from counts over the whole split. Macro-F1 and balanced accuracy are means over the "
    "classes that occur in it. Intervals hold the middle 95 % of 2,000 bootstrap samples of the rows (percentile "
    "intervals, Efron 1979): they say how much the score depends on the rows that were drawn, not on the training's "
    "seed. For a class of few rows they are too narrow. Chance is 1 / number of classes that occur; for accuracy it is "
    "the share of the most frequent class, and for phonetic features the accuracy of always saying the more frequent "
    "value. ECE is the expected calibration error (Naeini et al. 2015, in the form of Guo et al. 2017) with 15 bins of "
    "equal width. Phonetic features are those of Chomsky and Halle (1968) and Hayes (2009)."
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on the page. svg: content of the SVG file.  width: in inches, at which its text has its full size."""

    name: str
    svg: bytes
    width: float
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """What a page shows. facts: short phrases below the title.  method: of the ensemble.  config: YAML."""

    title: str
    facts: Sequence[str]
    scores: Scores
    intervals: ScoreIntervals
    ensemble: EnsembleReport | None
    method: str
    pictures: Sequence[Picture]
    config: str


def page_of(content: Content) -> str:
    """The page as HTML. Whatever comes from outside (names of runs and classes, paths) is escaped."""
    template = string.Template(importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    scores, ensemble = content.scores, content.ensemble
    return template.substitute(
        title=escape(content.title),
        facts=" · ".join(f"<span>{escape(fact)}</span>" for fact in content.facts),
        scores=_table(("score", "value", "95 % interval", "chance"), score_rows(scores, content.intervals)),
        models="" if ensemble is None else _models(ensemble, content.method),
        figures="\n".join(_figure(picture) for picture in content.pictures),
        classes=_table(
            ("class", "n", "F1", "95 % interval", "precision", "recall", "seen as"),
            class_rows(scores, content.intervals),
        ),
        method=_text(METHOD),
        config=escape(content.config),
    )


def _models(ensemble: EnsembleReport, method: str) -> str:
    rows = model_rows(ensemble)
    return "<h2>Models and ensembles</h2>\n" + _table(
        ("model or ensemble", "macro-F1", "95 % interval"), rows, chosen=f"ensemble: {method}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], chosen: str | None = None) -> str:
    """A table. chosen: the first cell of the row to mark."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        ('<tr class="chosen">' if row[0] == chosen else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    """Sentences as HTML; a number stays on one line with its %."""
    return escape(text).replace(" %", "&nbsp;%")


def _figure(picture: Picture) -> str:
    """A figure with its caption. On a narrow screen it keeps a width at which it can be read, and is scrolled."""
    source = base64.b64encode(picture.svg).decode("ascii")
    most, least = round(picture.width * 96), round(picture.width * 60)
    image = (
        f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(picture.alt)}" '
        f'style="max-width:{most}px;min-width:min({least}px,200vw)">'
    )
    return (
        f'<figure id="{escape(picture.name)}"><div class="wide" tabindex="0">{image}</div>'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )
