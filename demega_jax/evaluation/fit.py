"""A training run from its configuration to its end, for commands that train several."""

from collections.abc import Callable

from demega_jax.config import Config
from demega_jax.data.open import open_training
from demega_jax.evaluation.evaluate import validation_of
from demega_jax.training.alone import alone_in, check_alone
from demega_jax.training.loop import Loop
from demega_jax.training.members import Standing
from demega_jax.training.parallel import Mode, make_placement
from demega_jax.training.restore import start_state
from demega_jax.training.run import RunFolder, resumed_config
from demega_jax.training.setup import Experiment, make_experiment, note_of_heads, warn_of_no_learning
from demega_jax.training.signals import Signals


def open_experiment(config: Config, devices: int | None, parallel: Mode = "jit") -> Experiment:
    """The experiment of a configuration, with its data open. devices: how many; None for all."""
    data = open_training(config)
    placement = make_placement(parallel, devices, config.train.batch_size, config.train.accumulate)
    return make_experiment(config, data, placement)


def fit(
    config: Config, folder: RunFolder, signals: Signals, say: Callable[[str], None], devices: int | None = None
) -> list[Standing]:
    """Train in a run folder to the end, or go on where training stopped; returns the standing of each model.

    say: shows a line of text. Interrupted: a signal came, and everything is saved. UserError: as for `train`, and if
    the folder holds another training run.
    """
    check_alone(folder)
    resume = folder.config.is_file()
    if resume:
        config = resumed_config(folder.read_config(), config, folder.path)
    experiment = open_experiment(config, devices)
    experiment.data.plan.check_spread(config.model.input_norm)
    if note := note_of_heads(experiment.config):
        say(note)
    with alone_in(folder, config):
        state, metas = start_state(experiment, folder, None, say, resume=resume)
        warn_of_no_learning(experiment, 0 if metas is None else int(metas[0]["step"]))
        loop = Loop(experiment, folder, state, metas, validation_of(experiment))
        return loop.run(resumed=resume, signals=signals)
