"""Parts of an HTML page that needs no network and no other file. Whatever comes from outside is escaped."""

import base64
import dataclasses
import importlib.resources
import string
from collections.abc import Iterable, Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on a page. svg: content of the SVG file.  width: in inches, at which its text has its full size."""

    name: str
    svg: bytes
    width: float
    alt: str
    caption: str


def page(title: str, facts: Sequence[str], sections: Sequence[str], method: str, config: str) -> str:
    """A whole page. facts: short phrases below the title.  sections: HTML.  method: how numbers are computed.

    config: YAML, which is shown when the reader asks for it.
    """
    template = string.Template(importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        title=escape(title),
        facts=" · ".join(f"<span>{escape(fact)}</span>" for fact in facts),
        sections="\n".join(sections),
        method=text(method),
        config=escape(config),
    )


def section(heading: str, *parts: str) -> str:
    """A heading and the HTML below it."""
    return "\n".join((f"<h2>{escape(heading)}</h2>", *parts))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], chosen: str | None = None) -> str:
    """A table. chosen: the first cell of the row to mark."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        ('<tr class="chosen">' if row[0] == chosen else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def text(sentences: str) -> str:
    """Sentences as HTML; a number stays on one line with its %."""
    return escape(sentences).replace(" %", "&nbsp;%")


def note(sentences: str) -> str:
    """A paragraph in small letters."""
    return f'<p class="note">{text(sentences)}</p>'


def figures(pictures: Iterable[Picture]) -> str:
    """Figures with their captions. On a narrow screen each keeps a width at which it can be read, and is scrolled."""
    return "\n".join(_figure(picture) for picture in pictures)


def _figure(picture: Picture) -> str:
    source = base64.b64encode(picture.svg).decode("ascii")
    most, least = round(picture.width * 96), round(picture.width * 60)
    image = (
        f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(picture.alt)}" '
        f'style="max-width:{most}px;min-width:min({least}px,200vw)">'
    )
    return (
        f'<figure id="{escape(picture.name)}"><div class="wide" tabindex="0">{image}</div>'
        f"<figcaption>{text(picture.caption)}</figcaption></figure>"
    )
