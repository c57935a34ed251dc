"""What `train` does after its options are checked: begin or restore, train to the end, print the result."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demega_jax.commands.train_describe import describe, make_console
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.report.curves import plot_training_curve
from demega_jax.training.alone import alone_in
from demega_jax.training.loop import Loop
from demega_jax.training.meta import Meta
from demega_jax.training.quiet import quiet_failed_saves
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment, warn_of_no_learning
from demega_jax.training.signals import Interrupted, Signals

Share = Callable[[Any, list[Meta] | None], tuple[Any, list[Meta] | None]]


def begin(
    experiment: Experiment,
    folder: RunFolder,
    init: Path | None,
    go_on: str,
    *,
    resume: bool,
    signals: Signals | None = None,
    share: Share | None = None,
) -> int:
    """Train in a run folder to the end or a signal, draw the curves, print the result; returns the exit status.

    go_on: the command that continues after an interruption.  signals, share: of several processes, `train_together`;
    share gives the state to begin from, and the metas of its checkpoints, to the others.
    """
    quiet_failed_saves()
    with alone_in(folder, experiment.config):
        return _begin(experiment, folder, init, go_on, resume=resume, signals=signals or Signals(), share=share)


def _begin(
    experiment: Experiment,
    folder: RunFolder,
    init: Path | None,
    go_on: str,
    *,
    resume: bool,
    signals: Signals,
    share: Share | None,
) -> int:
    console = make_console()
    validation = experiment.data.validation
    experiment.data.plan.check_spread(experiment.config.model.input_norm)
    state, metas = start_state(experiment, folder, init, console.print, resume=resume)
    if share is not None:
        state, metas = share(state, metas)
        state = experiment.placement.replicate(state)
    warn_of_no_learning(experiment, 0 if metas is None else int(metas[0]["step"]))
    describe(experiment, folder, console)
    began = time.perf_counter()
    with signals.noted():
        loop = Loop(experiment, folder, state, metas, validation_of(experiment))
        try:
            standings = loop.run(resumed=resume, signals=signals)
        except Interrupted as interrupted:
            console.print(f"interrupted and saved; continue with\n  {go_on}")
            return interrupted.status
    console.print(f"trained in {time.perf_counter() - began:.0f} s")
    chance, reference = 1 / int((validation.class_counts() > 0).sum()), validation.reference_macro_f1
    against = f"chance {chance:.4f}" + (f", reference {reference:.4f}" if reference is not None else "")
    for member, standing in zip(folder.members(experiment.config), standings, strict=True):
        to, title = member.report / "training_curve.png", folder.path.name
        curve = plot_training_curve(member.metrics, to, title=title, chance=chance, reference=reference)
        console.print(f"best validation macro-F1 {standing.best_macro_f1:.4f} at step {standing.best_step} ({against})")
        console.print(f"curve {curve}")
    console.print(f"next  {shlex.join(['demega-jax', 'evaluate', str(folder.path)])}")
    return 0
