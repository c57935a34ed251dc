"""The result of an inspection: facts about a file, folder or tree, notes, and problems."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from demega_jax.errors import UserError, set_warning_sink

SECONDS = 5.0  # after which no more samples of a file or tree are read


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
            yield
        except UserError as error:
            self.problems.append(error)
        finally:
            set_warning_sink(None)

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file; numbers that are not finite are null."""
        facts = None if self.facts is None else dataclasses.asdict(self.facts)
        problems = [str(error) for error in self.problems]
        head = {"path": str(self.path), "kind": self.kind, "sound": not problems}
        return head | {"facts": plain(facts), "notes": self.notes, "problems": problems}


def plain(value: Any) -> Any:
    """Dictionaries, sequences, arrays, numbers and paths as JSON holds them; numbers that are not finite are null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
