"""What a sweep trains and tests, and the folder that keeps it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from demega_jax.config import Config
from demega_jax.config.load import override
from demega_jax.data.folder import data_folder, find_level, is_recorded
from demega_jax.errors import UserError, shortened
from demega_jax.evaluation.plan_file import begin_or_join
from demega_jax.training.run import RunFolder

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
        short = first.isdecimal() and last.isdecimal() and len(text) < 20
        if not (slash and short and 1 <= int(first) <= int(last)):
            raise UserError(
                "--cells", shortened(repr(text)), "I/N with I from 1 to N", "write --cells 3/8, for example"
            )
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

    @property
    def file(self) -> Path:
        """What the sweep is made of, so that only the same one is continued."""
        return self.folder / NAME

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

    def create_or_join(self, *, join: bool) -> None:
        """Write sweep.json into a new folder, or join the sweep there. The tested split may be another one.

        UserError: as for `begin_or_join`.
        """
        plan = {"levels": list(self.levels), "seeds": self.seeds, "config": self.config.model_dump(mode="json")}
        begin_or_join(self.file, "sweep", plan, join=join)
