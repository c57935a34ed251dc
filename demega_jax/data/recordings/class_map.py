"""A mapping of the labels of events to classes, from a table with the columns label and class."""

import dataclasses
from pathlib import Path

from demega_jax.data.tables import read_table
from demega_jax.errors import UserError, listed
from demega_jax.files import fingerprint
from demega_jax.names import all_different, straight

COLUMNS = {"label": ("label",), "class": ("class",)}


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """Which class each label belongs to. Labels that are not named are left out.

    path: the file.  pairs: labels, written as those of `Events` are, and the names of their classes.
    """

    path: Path
    pairs: tuple[tuple[str, str], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order in which the file names them first."""
        return tuple(dict.fromkeys(name for _, name in self.pairs))

    @property
    def fingerprint(self) -> str:
        """CRC-32 of the pairs; their order, and the path of the file, make no difference."""
        return fingerprint(sorted(self.pairs))

    def labels_of(self, name: str) -> list[str]:
        """The labels of a class."""
        return [label for label, mine in self.pairs if mine == name]


def read_class_map(path: Path) -> ClassMap:
    """The mapping of a file; several labels may have one class. A label that is there twice with one class counts once.

    UserError: it is no such table, has a label with two classes, fewer than two classes, or one class in two spellings.
    """
    found: dict[str, tuple[str, str]] = {}
    for row in read_table(path, COLUMNS):
        label, name = straight(row.cells["label"].lower()), row.cells["class"]
        known, where = found.setdefault(label, (name, row.where))
        if known != name:
            came = f"label {label} is of class {known} in {where}, and of class {name} in {row.where}"
            raise UserError(path, came, "one class for each label", "remove one of the two rows")
    made = ClassMap(path, tuple((label, name) for label, (name, _) in found.items()))
    if len(made.classes) < 2:
        came = f"one class only ({made.classes[0]})"
        raise UserError(path, came, "two classes or more", "name the labels of another class, too")
    if not all_different(made.classes):
        came = f"two of the classes {listed(made.classes, 8)} differ by their apostrophe only"
        raise UserError(path, came, "one spelling of each class", "correct one of them")
    return made
