"""Dispatches: a dispatch is one compiled program of one or more train steps, which the host starts at once."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from demega_jax.data.feeds.feed import Feed
from demega_jax.training.memory import StepMemory, available_memory, check_memory, step_memory
from demega_jax.training.setup import Experiment
from demega_jax.training.state import TrainState


class Dispatch(NamedTuple):
    """A compiled dispatch.

    run: (state, *inputs) -> (state, metrics). With several steps, metrics have an axis of steps in front.
    take: gives the inputs of the next dispatch.
    need: memory of a step.  seconds: how long compiling took.
    program: the compiled program, of one step or several.
    """

    run: Callable[..., tuple[Any, Any]]
    take: Callable[[], tuple[Any, ...]]
    need: StepMemory
    seconds: float
    program: jax.stages.Compiled

    def check(self, experiment: Experiment) -> None:
        """UserError, with a batch size that fits: memory cannot hold the step."""
        available, multiple, sharing = device_memory(experiment)
        check_memory(self.need, available, experiment.config.train.batch_size, multiple, sharing)


def device_memory(experiment: Experiment) -> tuple[int | None, int, int]:
    """(bytes of a device, the number that divides every batch size, devices that share those bytes)."""
    placement = experiment.placement
    available = available_memory(placement.device)
    return available, placement.devices * experiment.config.train.accumulate, placement.sharing


class LoweredDispatch(NamedTuple):
    """A dispatch that is not compiled yet. lowered: its program.  take, first: gives inputs, and those of the start."""

    lowered: jax.stages.Lowered
    take: Callable[[], tuple[Any, ...]]
    first: tuple[Any, ...]


def lower_dispatch(experiment: Experiment, feed: Feed, state: TrainState) -> LoweredDispatch:
    """The program of `train.steps_per_dispatch` steps, whose batches come from the feed's position on.

    On a CPU each step is a program of its own, which is faster there (benchmarks/NOTES.md).
    """
    placement, step, config = experiment.placement, experiment.train_step, experiment.config.train
    members = config.members > 1
    take: Callable[[], tuple[Any, ...]]
    if feed.draw is not None and not placement.on_cpu:
        take = functools.partial(feed.take, config.steps_per_dispatch)
        jitted = placement.compile_dispatch(step, feed.draw, steps=config.steps_per_dispatch, members=members)
    else:
        take = lambda: (next(feed),)  # noqa: E731
        jitted = placement.compile_train(step, members=members)
    first = take()
    return LoweredDispatch(jitted.lower(state, *first), take, first)


def compile_dispatch(experiment: Experiment, feed: Feed, state: TrainState) -> Dispatch:
    """Compile `train.steps_per_dispatch` steps of an experiment, whose batches come from the feed's position on."""
    placement, steps = experiment.placement, experiment.config.train.steps_per_dispatch
    held = experiment.data.plan.device_bytes(placement.devices)
    began = time.perf_counter()
    lowered, take, first = lower_dispatch(experiment, feed, state)
    waited = feed.take_input_wait()
    compiled = lowered.compile()
    seconds = time.perf_counter() - began - waited
    need = step_memory(compiled, state, held)
    if not placement.on_cpu:  # the free memory of a CPU has what the feed holds subtracted already
        need = dataclasses.replace(need, kept=need.kept + held)
    run = functools.partial(_one_by_one, compiled, feed, steps) if steps > 1 and placement.on_cpu else compiled
    return Dispatch(run, functools.partial(next, itertools.chain([first], iter(take, None))), need, seconds, compiled)


def _one_by_one(
    step: Callable[..., tuple[Any, Any]], feed: Feed, times: int, state: Any, batch: Any
) -> tuple[Any, Any]:
    """(state, metrics [times, ..]) after so many steps, each started alone, on this batch and those that follow."""
    found = []
    for number in range(times):
        batch = next(feed) if number else batch
        state, metrics = step(state, batch)
        found.append(jax.block_until_ready(metrics))
    return state, jax.tree.map(lambda *each: np.stack(each), *found)
