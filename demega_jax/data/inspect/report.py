"""The result of an inspection: facts about a file, folder or tree, notes, and problems."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from demega_jax.errors import UserError, set_warning_sink


@dataclasses.dataclass
class Report:
    """What was found at a path. facts: a dataclass of numbers and names; None where nothing could be read.

    notes: the warnings of other commands about these data.  problems: what is not sound.
    """

    path: Path
    kind: str
    facts: Any = None
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[UserError] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Collect the warnings of the code inside as notes, and a `UserError` that ends it as a problem."""
        set_warning_sink(lambda line: self.notes.append(line.removeprefix("warning: ").removeprefix(f"{self.path}: ")))
        try:
            with self.going_on():
                yield
        finally:
            set_warning_sink(None)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Go on after the code inside if a `UserError` ends it, which becomes a problem. Equal ones are one problem."""
        try:
            yield
        except UserError as error:
            if str(error) not in map(str, self.problems):
                self.problems.append(error)

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file; numbers that are not finite are null."""
        facts = None if self.facts is None else dataclasses.asdict(self.facts)
        head = {"path": self.path, "kind": self.kind, "sound": not self.problems}
        return plain(head | {"facts": facts, "notes": self.notes, "problems": self.problems})


def plain(value: object) -> Any:
    """Dictionaries, sequences, arrays, numbers and paths as JSON holds them; numbers that are not finite are null."""
    return json.loads(json.dumps(value, default=_simple), parse_constant=lambda constant: None)


def _simple(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
