"""What a sweep trains and tests, and the folder that keeps it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from demega_jax.config import Config
from demega_jax.config.load import override, validated
from demega_jax.data.folder import data_folder, find_level, is_recorded
from demega_jax.errors import UserError
from demega_jax.files import write_text
from demega_jax.training.run import RunFolder

FORMAT = 1
NAME = "sweep.json"


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of a sweep that one process does: of the levels, every `of`-th one, from the `number`-th on (from 1)."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str, levels: int) -> "Share":
        """The share of a text such as 3/8. UserError: another form, or more shares than levels."""
        first, slash, last = text.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise UserError("--cells", repr(text), "I/N with I from 1 to N", "write --cells 3/8, for example")
        if int(last) > levels:
            came = f"{last} shares for {levels} levels"
            raise UserError("--cells", came, "at most one share for each level", f"write --cells {first}/{levels}")
        return cls(int(first), int(last))

    def levels(self, levels: Sequence[int]) -> tuple[int, ...]:
        """The levels of this share, in the order of the sweep."""
        return tuple(levels[self.number - 1 :: self.of])


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep in its folder. config: of every training run, apart from its level.  levels: to train and to test at.

    seeds: models of each level, with the seeds train.seed, train.seed + 1 and so on.  split: that is tested.
    """

    folder: Path
    config: Config
    levels: tuple[int, ...]
    seeds: int
    split: str

    def run(self, level: int) -> RunFolder:
        """The run folder of a level."""
        return RunFolder(self.folder / f"level_{level}")

    def cell(self, trained: int, tested: int) -> Path:
        """The file with the scores of models of one level, tested at another."""
        return self.folder / "cells" / f"trained_{trained}_tested_{tested}_{self.split}.json"

    def config_of(self, level: int) -> Config:
        """The configuration of the training run of a level."""
        return override(self.config, {"data.level": level, "train.members": self.seeds}, "sweep")

    def check(self) -> None:
        """UserError: the data lack a level, or the configuration cannot train the seeds side by side."""
        folder = data_folder(self.config.data.path)
        for level in self.levels:
            self.config_of(level)
            if not is_recorded(folder, self.config.data.feed):
                find_level(folder, level)

    def describe(self) -> dict[str, object]:
        """What sweep.json holds."""
        plan = {"levels": list(self.levels), "seeds": self.seeds, "config": self.config.model_dump(mode="json")}
        return {"format": FORMAT, **plan}

    def create_or_join(self, *, join: bool) -> None:
        """Write sweep.json into a new folder, or join the sweep there. The tested split may be another one.

        UserError: there is a sweep and join is false, or it is another sweep, or the folder holds something else.
        """
        path = self.folder / NAME
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise UserError(self.folder, "a folder that holds no sweep", "a new folder", "choose another --run")
            write_text(path, json.dumps(self.describe(), indent=1) + "\n", "choose another --run")
            return
        if not join:
            way_out = "continue it with --resume, or choose another --run"
            raise UserError(self.folder, "it holds a sweep already", "a new folder for a new sweep", way_out)
        there = _read(path)
        # Keys that came later have their defaults.
        there["config"] = validated(there.get("config"), str(path)).model_dump(mode="json")
        for key, value in self.describe().items():
            if there.get(key) != value:
                came = f"another sweep: {_difference(key, there.get(key), value)}"
                raise UserError(self.folder, came, "the same sweep as before", "choose another --run")


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(path, f"it cannot be read ({reason})", "a sweep", "choose another --run") from None
    number = found.get("format") if isinstance(found, dict) else None
    if not isinstance(number, int):
        raise UserError(path, "it describes no sweep", "a sweep", "choose another --run")
    if number > FORMAT:
        way_out = "upgrade demega-jax with `pip install -U demega-jax`"
        raise UserError(path, f"format {number}", f"format {FORMAT} or older", way_out)
    return found


def _difference(key: str, old: object, new: object) -> str:
    """The first key in which two values differ, with both."""
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
        return _difference(name if key == "config" else f"{key}.{name}", old.get(name), new.get(name))
    return f"{key} was {old} and is {new}"
