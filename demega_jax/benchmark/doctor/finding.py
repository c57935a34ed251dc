"""What was found at one place of the machine or the installation, and what to do about it."""

import dataclasses
import textwrap
from typing import Literal

from demega_jax.errors import UserError, printable, without_secrets

Grade = Literal["ok", "note", "warning", "broken"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """name: what was looked at, in one or two words.  grade: ok; note: worth knowing; warning: something will not work,
    or not as well as it could; broken: training cannot be trusted or does not start.  way_out: a sentence that begins
    with a verb; empty where nothing is to be done."""

    name: str
    grade: Grade
    found: str
    way_out: str = ""

    def lines(self, width: int) -> list[str]:
        """The finding and below it what to do, for a terminal of so many columns."""
        first, further = f"{self.grade:<9}{self.name:<11}", " " * 20
        texts = ((self._shown(self.found), first), (self._shown(self.way_out), further))
        found: list[str] = []
        for text, begin in texts:
            found += textwrap.wrap(
                text,
                max(width, 60),
                initial_indent=begin,
                subsequent_indent=further,
                break_long_words=False,
                break_on_hyphens=False,
            )
        return found

    def to_json(self) -> dict[str, str]:
        """The finding for a JSON file."""
        return {name: self._shown(value) for name, value in dataclasses.asdict(self).items()}

    @staticmethod
    def _shown(text: str) -> str:
        return printable(" ".join(without_secrets(text).split()))


def of_error(name: str, error: UserError, grade: Grade = "broken") -> Finding:
    """The finding of an error that another command would end with."""
    way_out = error.way_out[:1].upper() + error.way_out[1:]
    return Finding(
        name, grade, f"{error.where}: {error.came}", way_out if way_out.endswith(("?", ".")) else f"{way_out}."
    )
