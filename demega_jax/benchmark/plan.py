"""How long a training run would take and how much memory it would need, from a few steps of it."""

import dataclasses
import statistics

from demega_jax.benchmark.measure import Limits, compile_step, time_steps
from demega_jax.training.setup import Experiment

STEPS, SECONDS = 5, 20.0  # dispatches that are timed, and how long at most


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """steps: of the training run.  step_seconds: measured.  memory: bytes of a step on each device."""

    steps: int
    step_seconds: float
    memory: int

    @property
    def seconds(self) -> float:
        """Seconds of all steps."""
        return self.steps * self.step_seconds


def run_plan(experiment: Experiment) -> RunPlan:
    """Compile the step and time a few of them on new models. UserError: memory cannot hold it."""
    state = experiment.placement.replicate(experiment.fresh_state())
    feed = experiment.feed()
    try:
        dispatch, _ = compile_step(experiment, feed, state)
        each = experiment.config.train.steps_per_dispatch
        times = time_steps(dispatch.run, dispatch.take, state, each, Limits(STEPS, SECONDS))
    finally:
        feed.close()
    return RunPlan(experiment.total_steps, statistics.median(times.steps), dispatch.need.total)
