"""`train` in several processes: they join, take the leader's configuration, and train one model in its run folder."""

import io
import json

from demega_jax.api.train import TrainRequest
from demega_jax.api.training_run import begin
from demega_jax.commands.shared.joined import check_same_command, check_same_rows, joined
from demega_jax.commands.shared.process import Process, set_numerics
from demega_jax.commands.shared.processes import Ours
from demega_jax.config.load import validated
from demega_jax.console import new_console
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.evaluation.fit import open_experiment
from demega_jax.training.loop import Loop
from demega_jax.training.run import RunFolder
from demega_jax.training.setup import Experiment
from demega_jax.training.signals import Interrupted
from demega_jax.training.together import Follower, SharedSignals, Together


def train_together(process: Process, ours: Ours, request: TrainRequest) -> int:
    """Train with the other processes; returns the exit status, the same in all of them.

    Process 0 makes the configuration, from the command line and the run folder.
    """
    request.check()
    with joined(ours) as together:
        check_same_command(together, process.words)
        text = together.same("config", lambda: request.asked().model_dump_json())
        config = validated(json.loads(text), "the configuration of process 0")
        set_numerics(process, config)
        experiment = open_experiment(config, request.devices, request.parallel)
        check_same_rows(together, experiment.data.train, experiment.data.validation)
        experiment.placement.connect(lambda: together.meet("devices"))
        signals = SharedSignals()
        together.note(signals)
        if together.leads:
            return begin(experiment, request, signals, share=together.same_state).status
        return _follow(experiment, request.folder, signals, together, resume=request.resume)


def _follow(
    experiment: Experiment, folder: RunFolder, signals: SharedSignals, together: Together, *, resume: bool
) -> int:
    """Train as process 0 does, and write nothing."""
    state, metas = together.same_state(experiment.placement.replicate(experiment.fresh_state()), None)
    state = experiment.placement.replicate(state)
    with signals.noted():
        loop = Loop(experiment, folder, state, metas, validation_of(experiment), kind=Follower)
        try:
            loop.run(resumed=resume, signals=signals, console=new_console(file=io.StringIO()))
        except Interrupted as interrupted:
            return interrupted.status
    return 0
