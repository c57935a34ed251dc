"""`demega_jax.benchmark`: the time of a training step on this machine, or a modelled one for devices not here."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demega_jax.api.asked import Changes, Levels, changed, level_words, levels_there
from demega_jax.api.lists import all_devices, names, numbers
from demega_jax.api.paths import PathLike, check_inputs, check_out, expanded_path, path_of
from demega_jax.api.settings import settings_of
from demega_jax.api.shown import status_or_lines
from demega_jax.config import Config
from demega_jax.config.given import ConfigLike, config_file, read_given
from demega_jax.config.load import override
from demega_jax.errors import UserError
from demega_jax.names import FEEDS, PRECISIONS, TARGETS
from demega_jax.saying import Loudness, in_python, loudness

CPU_BATCH = 64  # rows, where no batch size is asked for: the default of 512 would take a CPU minutes
DEFAULT_LEVEL = 100
Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class BenchmarkResult:
    """What was measured on this machine, or modelled for targets.

    values: what `demega-jax benchmark --json` writes: the machine, the versions, and a list of `cases`, each with its
    level, feed, devices, precision, times in seconds and rows/s; or of `targets`, with modelled times.
    """

    values: dict[str, Any]

    @property
    def modelled(self) -> bool:
        """Whether nothing was measured, but programs for devices that are not here were compiled."""
        return "targets" in self.values

    @property
    def cases(self) -> list[dict[str, Any]]:
        """The figures of each case, or of each target."""
        found: list[dict[str, Any]] = self.values["targets" if self.modelled else "cases"]
        return found

    def to_json(self) -> dict[str, Any]:
        """The same in plain Python types."""
        return self.values

    def show(self) -> None:
        """Print the tables."""
        from demega_jax.benchmark.tables import print_result
        from demega_jax.benchmark.targets.tables import print_targets
        from demega_jax.console import new_console

        (print_targets if self.modelled else print_result)(self.values, new_console())

    def plot(self, path: PathLike) -> Path:
        """Draw them in a PNG, SVG or PDF file; returns its path."""
        from demega_jax.benchmark.plot import plot_result
        from demega_jax.benchmark.targets.plot import plot_targets

        return (plot_targets if self.modelled else plot_result)(self.values, Path(path))


@in_python
def benchmark(
    config: ConfigLike | None = None,
    changes: Changes = (),
    *,
    data: PathLike | None = None,
    level: Levels | None = None,
    feed: str | Sequence[str] | None = None,
    devices: Levels | None = None,
    precision: str | Sequence[str] | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    stages: bool = False,
    target: str | Sequence[str] | None = None,
    dump: PathLike | None = None,
    progress: bool = True,
) -> BenchmarkResult:
    """Measure a training step on this machine, and what it could do at best, as `demega-jax benchmark` does.

    config, changes: as for `train`.  data: the folder that holds grouped_K, or recordings; None: noise.  level, feed,
    devices, precision: one, several or "all"; every combination is a case.  batch_size: None: 512, or 64 on a CPU.
    steps: of a case; None: as many as take 12 s.  stages: time the stages of a step of the first case too.
    target: devices that are not here, such as "h200": their programs are compiled, and the time of a step is modelled
    (extra aot).  dump: write these programs there.  progress: whether to say what is being measured, and to print the
    tables. UserError: what is asked for cannot be done, or no case could be measured.
    """
    asked = Asked(
        config,
        changes,
        expanded_path(data),
        level_words(level),
        _words(feed),
        level_words(devices),
        _words(precision),
        batch_size,
        steps,
        stages,
        _words(target),
        path_of(dump),
    )
    with loudness(Loudness.USUAL if progress else Loudness.SILENT):
        from demega_jax.console import new_console

        with status_or_lines(new_console(), seconds=0) as tell:
            found = benchmark_as_asked(asked, tell)
        if progress:
            found.show()
    return found


def _words(items: str | Sequence[str] | None) -> list[str]:
    """One name or several as a list."""
    return [items] if isinstance(items, str) else list(items or ())


@dataclasses.dataclass(frozen=True)
class Asked:
    """The benchmark that is asked for; the lists say what the cases are. The arguments are those of `benchmark`."""

    config: ConfigLike | None
    changes: Changes
    data: str | None
    levels: Sequence[str]
    feeds: Sequence[str]
    devices: Sequence[str]
    precisions: Sequence[str]
    batch_size: int | None
    steps: int | None
    stages: bool
    targets: Sequence[str]
    dump: Path | None

    def check(self) -> None:
        """UserError: an item that there is not, or a target with something that does not go with it, or lacks."""
        for option, items in (("--level", self.levels), ("--devices", self.devices)):
            numbers(option, items, lambda: range(1, 10_000))  # for its errors: what is there is known later
        names("--feed", self.feeds, FEEDS)
        names("--precision", self.precisions, PRECISIONS)
        names("--target", self.targets, TARGETS)
        if self.dump is not None:
            check_out(self.dump)
            if not self.targets:
                raise UserError("--dump", "given without --target", "a target", "name one, such as --target h200")
        for option, value in (("--data", self.data), ("--steps", self.steps), ("--stages", self.stages)):
            if self.targets and value:
                came = "given beside --target, for which nothing is measured"
                raise UserError(option, came, "only one of the two", f"leave out {option} or --target")

    @property
    def most_devices(self) -> int:
        """The largest number of devices that is named."""
        return max((int(n) for item in self.devices for n in re.findall(r"\d+", item)), default=1)

    def base(self) -> Config:
        """The configuration of the file, or the default one, with the changes, the data and the batch size."""
        check_inputs(config_file(self.config) if isinstance(self.config, str | Path) else None, self.data)
        config = read_given(self.config, "config")
        named = [text.partition("=")[0] for text in self.changes]
        if config.data.feed == "stream" and "data.feed" not in named:
            config = override(config, {"data.feed": "resident"}, "benchmark")
        options = {"data.path": ("--data", self.data), "train.batch_size": ("--batch-size", self.batch_size)}
        return changed(config, self.changes, options)

    @property
    def sized(self) -> bool:
        """Whether a batch size is asked for."""
        given = any("train.batch_size" in text for text in self.changes)
        return self.config is not None or self.batch_size is not None or given


def benchmark_as_asked(asked: Asked, tell: Tell) -> BenchmarkResult:
    """Measure, or model for targets. tell: shows what is being done."""
    asked.check()
    base = asked.base()
    with settings_of(base, remember=False):  # so that programs are compiled, not read from disk
        return BenchmarkResult(_result(base, asked, tell))


def _result(base: Config, asked: Asked, tell: Tell) -> dict[str, Any]:
    import jax

    from demega_jax.benchmark.cases import all_cases
    from demega_jax.benchmark.run import run_cases

    targets = names("--target", asked.targets, TARGETS)
    here = 1 if targets else jax.device_count()
    counts = numbers("--devices", asked.devices, lambda: all_devices(here)) or [here]
    levels = numbers("--level", asked.levels, lambda: levels_there(base.data)) or _default_levels(base)
    feeds, precisions = names("--feed", asked.feeds, FEEDS), names("--precision", asked.precisions, PRECISIONS)
    cases = all_cases(levels, feeds or [base.data.feed], counts, precisions or [base.model.dtype])
    if not asked.sized and not targets and jax.default_backend() == "cpu":
        base = override(base, {"train.batch_size": CPU_BATCH}, "benchmark")
    if targets:
        from demega_jax.benchmark.targets.run import run_targets

        return run_targets(base, targets, cases, asked.dump, tell)
    return run_cases(base, cases, asked.steps, asked.stages, tell)


def _default_levels(base: Config) -> list[int]:
    """The configuration's levels; else the only one of the data, as training would take it; else one to simulate."""
    from demega_jax.data.folder import find_level, find_levels, has_recordings

    path = None if base.data.path is None else Path(base.data.path)
    if base.data.levels:
        return list(base.data.levels)
    if path is None or (has_recordings(path) and not find_levels(path)):
        return [DEFAULT_LEVEL]
    folder = find_level(path, None)
    return [level for level, there in find_levels(path).items() if there == folder]
