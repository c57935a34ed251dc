"""What a training run shows while it goes on: a bar on a terminal, plain lines anywhere else."""

import datetime
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demega_jax.console import new_console
from demega_jax.errors import set_warning_sink
from demega_jax.names import SCORE_NAMES, Monitor

REFRESHES_PER_SECOND = 2
# How a plain line writes the values, in this order.
TRAIN_FORMATS = {"loss": "loss {:.4g}", "samples_per_second": "samples/s {:.0f}"}
VALIDATION_FORMATS = {
    "loss": "loss {:.4g}",
    "macro_f1": "macro-F1 {:.4f}",
    "balanced_accuracy": "balanced accuracy {:.4f}",
    "balanced_accuracy_at_10": "at 10 {:.4f}",
}


class Progress:
    """Shows a training run of `total_steps` within a `with` block. start_step: where a resumed one goes on.

    It writes to stdout. stderr has `error:` and `warning:` lines only, so that `2> problems.txt` catches those and
    nothing else. On a terminal warnings appear above the bar; where stderr leads elsewhere, they appear there too.
    Nothing here waits for a device: values are Python floats, and a thread redraws the bar twice a second.

    console: where to show it; None: stdout.  monitor: the score of validation that the bar shows.  clock: seconds,
    monotonic.  now: the date and time of a line.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_step: int = 0,
        console: Console | None = None,
        monitor: Monitor = "macro_f1",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ):
        self._total, self._step = total_steps, start_step
        self._epoch: float | None = None
        self._console = console or new_console()
        self._clock, self._now = clock, now
        self._anchor = (clock(), start_step)  # time and step from which the speed is measured
        self._logged = False
        self._end: float | None = None  # when the training run is expected to end
        self._train: Mapping[str, float] = {}
        self._monitor: Monitor = monitor
        self._score: float | None = None  # the one that is monitored
        self._best: float | None = None
        self._live: Live | None = None
        # A quiet console shows no bar, and no warnings above it either: they go to stderr as always.
        if self._console.is_terminal and not self._console.is_dumb_terminal and not self._console.quiet:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stderr=sys.stderr.isatty(),
            )

    def __enter__(self) -> Self:
        self._anchor = (self._clock(), self._step)
        if self._live is not None:
            self._live.start(refresh=True)
            set_warning_sink(self._warn)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            set_warning_sink(None)
            self._live.stop()

    def log_train(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Show a line of the log: of the values `loss` and `samples_per_second`, where they are given."""
        self._step, self._epoch, self._train = step, epoch, dict(values)
        self._measure()
        if self._live is None:
            left = self._left()
            parts = [f"step {step}/{self._total} epoch {epoch:.1f}", *_parts(values, TRAIN_FORMATS)]
            self.message(" ".join(parts if left is None else [*parts, f"left {duration(left)}"]))

    def log_validation(self, step: int, epoch: float, values: Mapping[str, float], best: bool) -> None:
        """Show a validation: of the values those in VALIDATION_FORMATS, where they are given.

        best: whether it is the best so far.
        """
        self._step, self._epoch = step, epoch
        self._score = values.get(self._monitor)
        if best:
            self._best = self._score
        if self._live is None:
            parts = [f"step {step}/{self._total} epoch {epoch:.1f} validation", *_parts(values, VALIDATION_FORMATS)]
            self.message(" ".join([*parts, "best"] if best else parts))

    def message(self, text: str) -> None:
        """Print a line, above the bar where there is one; as a plain line it begins with the time."""
        if self._live is None:
            text = f"{self._now():%Y-%m-%d %H:%M:%S} {text}"
        # Soft wrap: a line of a log file stays one line, whatever the width.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _warn(self, line: str) -> None:
        self.message(line)
        if not sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)

    def _measure(self) -> None:
        """Estimate when the training run ends, from the speed since the first line, before which the step compiles."""
        now = self._clock()
        start, first_step = self._anchor
        steps = self._step - first_step
        if steps > 0:
            self._end = now + (now - start) / steps * (self._total - self._step)
        if not self._logged:
            self._anchor, self._logged = (now, self._step), True

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - self._clock())

    def _render(self) -> Group:
        """Two lines, the bar and the last values. They are cut where the terminal is too narrow."""
        left = self._left()
        bar = Table.grid(padding=(0, 1, 0, 0), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right")
        bar.add_row(
            f"step {self._step}/{self._total}",
            ProgressBar(total=self._total, completed=self._step, complete_style="cyan", finished_style="green"),
            "" if left is None else f"{duration(left)} left",
        )
        parts = [] if self._epoch is None else [f"epoch {self._epoch:.1f}"]
        if "loss" in self._train:
            parts.append(f"loss {self._train['loss']:.4g}")
        if self._score is not None:
            best = "" if self._best is None else f" (best {self._best:.3f})"
            name = "validation loss" if self._monitor == "loss" else SCORE_NAMES[self._monitor]
            parts.append(f"{name} {self._score:.3f}{best}")
        if "samples_per_second" in self._train:
            parts.append(f"{self._train['samples_per_second']:.0f} samples/s")
        return Group(bar, Text("  ".join(parts), no_wrap=True, overflow="ellipsis"))


def _parts(values: Mapping[str, float], formats: Mapping[str, str]) -> list[str]:
    return [text.format(values[name]) for name, text in formats.items() if name in values]


def duration(seconds: float) -> str:
    """`45s`, `1m20s`, `2h05m` or `3d04h`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02d}h"
    if hours:
        return f"{h}h{m:02d}m"
    return f"{m}m{s:02d}s" if minutes else f"{s}s"
