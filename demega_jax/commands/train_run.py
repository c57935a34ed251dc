"""What `train` does after its options are checked: begin or restore, train to the end, print the result."""

import shlex
import time
from pathlib import Path

from demega_jax.commands.train_describe import describe, make_console
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.report.curves import plot_training_curve
from demega_jax.training.alone import alone_in
from demega_jax.training.loop import Loop
from demega_jax.training.quiet import quiet_failed_saves
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment, warn_of_no_learning
from demega_jax.training.signals import Interrupted, Signals


def begin(experiment: Experiment, folder: RunFolder, init: Path | None, go_on: str, *, resume: bool) -> int:
    """Train in a run folder to the end or a signal, draw the curves, print the result; returns the exit status.

    go_on: the command that continues after an interruption.
    """
    quiet_failed_saves()
    with alone_in(folder, experiment.config):
        return _begin(experiment, folder, init, go_on, resume=resume)


def _begin(experiment: Experiment, folder: RunFolder, init: Path | None, go_on: str, *, resume: bool) -> int:
    console = make_console()
    validation = experiment.data.validation
    experiment.data.plan.check_spread(experiment.config.model.input_norm)
    state, metas = start_state(experiment, folder, init, console.print, resume=resume)
    warn_of_no_learning(experiment, 0 if metas is None else int(metas[0]["step"]))
    describe(experiment, folder, console)
    signals, began = Signals(), time.perf_counter()
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
