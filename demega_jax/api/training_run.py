"""What `train` does after what is asked for is checked: begin or restore, train to the end, print the result."""

import dataclasses
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from demega_jax.api.describe import describe, make_console
from demega_jax.api.train import TrainRequest
from demega_jax.config.load import to_yaml
from demega_jax.data.split import Split
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.report.curves import plot_training_curve
from demega_jax.names import SCORE_NAMES, Monitor
from demega_jax.saying import say_more, say_result
from demega_jax.training.alone import alone_in
from demega_jax.training.loop import Loop
from demega_jax.training.members import Standing
from demega_jax.training.meta import Meta
from demega_jax.training.monitor import is_better
from demega_jax.training.quiet import quiet_failed_saves
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment, warn_of_no_learning
from demega_jax.training.signals import Interrupted, Signals
from demega_jax.training.writers import read_metrics

Share = Callable[[Any, list[Meta] | None], tuple[Any, list[Meta] | None]]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model of a training run. run: its folder.  best_step, best_score: of the checkpoint `best`, by validation; both
    None where there was no validation.  monitor: which score of validation that is (train.monitor)."""

    run: Path
    best_step: int | None
    best_score: float | None
    monitor: Monitor

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: losses and rates of training, and scores of validations, by step."""
        return read_metrics(RunFolder(self.run).metrics)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A training run that came to its end, or was interrupted and saved.

    run: its folder.  models: one, or every member.  seconds: of training.  chance: 1 / number of classes of the
    validation split.  reference_macro_f1: the best possible macro-F1, where the data know it.  signal: the number of
    the signal that ended it; None: it is complete.
    """

    run: Path
    models: tuple[Trained, ...]
    seconds: float
    chance: float
    reference_macro_f1: float | None
    signal: int | None = None

    @property
    def best(self) -> Trained:
        """The model with the best score of validation (train.monitor)."""
        best = self.models[0]
        for model in self.models[1:]:
            if model.best_score is not None and is_better(model.monitor, model.best_score, best.best_score):
                best = model
        return best

    @property
    def status(self) -> int:
        """The exit status of the command: 0, or 128 + the signal."""
        return 0 if self.signal is None else 128 + self.signal


def begin(
    experiment: Experiment, request: TrainRequest, signals: Signals, *, share: Share | None = None
) -> TrainResult:
    """Train in a run folder to the end or a signal, draw the curves, and print the result.

    share: of several processes, `train_together`; it gives the state to begin from, and the metas of its checkpoints,
    to the others.
    """
    quiet_failed_saves()
    with alone_in(request.folder, experiment.config):
        return _begin(experiment, request, signals, share)


def _begin(experiment: Experiment, request: TrainRequest, signals: Signals, share: Share | None) -> TrainResult:
    console, folder = make_console(), request.folder
    experiment.data.plan.check_spread(experiment.config.model.input_norm)
    state, metas = start_state(experiment, folder, request.init, console.print, resume=request.resume)
    if share is not None:
        state, metas = share(state, metas)
        state = experiment.placement.replicate(state)
    warn_of_no_learning(experiment, 0 if metas is None else int(metas[0]["step"]))
    describe(experiment, folder, console)
    say_more(f"jax {jax.__version__}\n{to_yaml(experiment.config).rstrip()}")
    began, signal = time.perf_counter(), None
    with signals.noted():
        loop = Loop(experiment, folder, state, metas, validation_of(experiment))
        try:
            loop.run(resumed=request.resume, signals=signals)
        except Interrupted as interrupted:
            signal = interrupted.status - 128
    standings = [member.standing for member in loop.members]
    result = _result(experiment, folder, standings, time.perf_counter() - began, signal)
    if signal is not None:
        say_result(f"interrupted and saved; continue with\n  {request.go_on}")
        return result
    _finish(result, experiment.data.validation, console)
    after = shlex.join(["demega-jax", "evaluate", str(folder.path)])
    console.print(f"next  {after if request.again else f'demega_jax.evaluate({str(folder.path)!r})'}")
    return result


def _result(
    experiment: Experiment, folder: RunFolder, standings: Sequence[Standing], seconds: float, signal: int | None
) -> TrainResult:
    models = []
    for member, standing in zip(folder.members(experiment.config), standings, strict=True):
        validated = standing.best_step > 0
        step, score = (standing.best_step, standing.best_score) if validated else (None, None)
        models.append(Trained(member.path, step, score, standing.monitor))
    validation = experiment.data.validation
    chance = 1 / int((validation.class_counts() > 0).sum())
    return TrainResult(folder.path, tuple(models), seconds, chance, validation.reference_macro_f1, signal)


def _score(model: Trained) -> str:
    """The best validation in words; one that was resumed at its end may have none."""
    if model.best_score is None:
        return "no validation so far"
    return f"best validation {SCORE_NAMES[model.monitor]} {model.best_score:.4f} at step {model.best_step}"


def _finish(result: TrainResult, validation: Split, console: Console) -> None:
    """Draw the curves of a complete training run, and print its scores."""
    console.print(f"trained in {result.seconds:.0f} s")
    chance, reference = result.chance, validation.reference_macro_f1
    against = f"chance {chance:.4f}" + (f", reference {reference:.4f}" if reference is not None else "")
    for model in result.models:
        member, title = RunFolder(model.run), result.run.name
        to = member.report / "training_curve.png"
        curve = plot_training_curve(
            member.metrics, to, title=title, monitor=model.monitor, chance=chance, reference=reference
        )
        which = f"{model.run.relative_to(result.run)}: " if len(result.models) > 1 else ""
        say_result(f"{which}{_score(model)} ({against})")
        console.print(f"curve {curve}")
