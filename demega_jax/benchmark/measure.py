"""Time and memory of a training step, and how far it is from what the machine could do."""

import collections
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from demega_jax.benchmark.cases import Case, CaseData
from demega_jax.benchmark.machine import Machine, forget_peak_memory, peak_memory
from demega_jax.benchmark.program import CompilerFigures, compiler_figures, matrix_flops
from demega_jax.data.feeds.feed import Feed
from demega_jax.training.dispatch import Dispatch, compile_dispatch
from demega_jax.training.in_flight import DISPATCHES_IN_FLIGHT
from demega_jax.training.parallel import make_placement
from demega_jax.training.setup import Experiment, make_experiment

LEAST = 3  # dispatches that are timed, at least
CACHE_HIT = "/jax/compilation_cache/cache_hits"

Take = Callable[[], tuple[Any, ...]]
Run = Callable[..., tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a case is timed: until so many steps, or until they have taken so many seconds."""

    steps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds that steps took.

    steps: of each step; where a dispatch has several, its time over their number.
    input_wait: mean time that the host waited for input.  host: the same and the time that it took to start the step.
    """

    steps: list[float]
    input_wait: float
    host: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step does on all devices together.

    flops: of products and convolutions, counted in the program as it is written.
    input_bytes: of a batch's windows, labels and marks of valid rows.
    state_bytes: of parameters and optimizer state, read and written on every device.
    compiled: what the compiler says of the compiled step.
    """

    flops: int
    input_bytes: int
    state_bytes: int
    compiled: CompilerFigures

    @property
    def least_bytes(self) -> int:
        """Bytes that no program for this step can avoid: the input read once, the state read and written."""
        return self.input_bytes + self.state_bytes


def measure(case: Case, given: CaseData, limits: Limits, tell: Callable[[str], None]) -> tuple[dict[str, Any], Work]:
    """Compile and time a case; its figures by name, in seconds and bytes, and the work of its step. tell: called with
    what goes on."""
    placement = make_placement("jit", case.devices, given.config.train.batch_size, given.config.train.accumulate)
    experiment = make_experiment(given.config, given.data, placement)
    forget_peak_memory()
    tell("loading the data")
    state = placement.replicate(experiment.fresh_state())
    feed = experiment.feed()
    try:
        tell("compiling")
        dispatch, compiling = compile_step(experiment, feed, state)
        tell("timing steps")
        each = given.config.train.steps_per_dispatch
        times = time_steps(dispatch.run, dispatch.take, state, each, limits)
        peak, source = peak_memory(placement.mesh.devices.flat[0])
    finally:
        feed.close()
    found = figures(case, given, experiment, times) | compiling
    return found | {"peak_memory_bytes": peak, "peak_memory_of": source}, step_work(experiment, dispatch)


def compile_step(experiment: Experiment, feed: Feed, state: Any) -> tuple[Dispatch, dict[str, Any]]:
    """The dispatch that the training loop would run, compiled, and figures of it. UserError: memory cannot hold it."""
    hits: list[str] = []

    def listen(event: str, **_: object) -> None:
        hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        dispatch = compile_dispatch(experiment, feed, state)
    finally:
        jax.monitoring.unregister_event_listener(listen)
    dispatch.check(experiment)
    return dispatch, {
        "compile_seconds": dispatch.seconds,
        "compiled_from_cache": CACHE_HIT in hits,
        "step_memory_bytes": dispatch.need.total,
        "feed_memory_bytes": experiment.data.plan.device_bytes(experiment.placement.devices),
    }


def time_steps(run: Run, take: Take, state: Any, each: int, limits: Limits) -> Times:
    """Run dispatches of `each` steps as the training loop does, several under way at a time, and time them.

    A step's time is that between two ends, once as many are under way as may be: what the host does meanwhile costs
    nothing unless the devices wait for it.
    """
    under_way: collections.deque[Any] = collections.deque()
    ends: list[float] = []
    waits: list[float] = []
    hosts: list[float] = []

    def start() -> None:
        nonlocal state
        began = time.perf_counter()
        inputs = take()
        waits.append(time.perf_counter() - began)
        state, metrics = run(state, *inputs)
        hosts.append(time.perf_counter() - began)
        under_way.append(metrics["loss"])

    def end() -> None:
        jax.block_until_ready(under_way.popleft())
        ends.append(time.perf_counter())

    # The first round is not timed: each dispatch under way has memory of its own, which the system hands out slowly.
    # Where a dispatch is many steps, one more under way is enough to hide the host.
    ahead = DISPATCHES_IN_FLIGHT if each == 1 else 1
    for _ in range(ahead + 1):
        start()
    for _ in range(ahead):
        end()
        start()
    end()
    waits, hosts, ends = [], [], ends[-1:]
    most = max(LEAST, -(-limits.steps // each))
    while len(hosts) < most and (len(hosts) < LEAST or ends[-1] - ends[0] < limits.seconds):
        start()
        end()
    jax.block_until_ready(state)
    seconds = [float(between) / each for between in np.diff(ends)]
    return Times(seconds, statistics.fmean(waits) / each, statistics.fmean(hosts) / each)


def step_work(experiment: Experiment, dispatch: Dispatch) -> Work:
    """What a step of the experiment does, counted in its jaxpr and asked of the compiler."""
    config, step, plan = experiment.config, experiment.train_step, experiment.data.plan
    members, devices = config.train.members, experiment.placement.devices
    state = jax.eval_shape(experiment.fresh_state)
    if members > 1:  # `step` is that of one model
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)
    batch = {
        name: jax.ShapeDtypeStruct((config.train.batch_size, *shape), dtype)
        for name, (shape, dtype) in plan.batch.items()
    }
    flops = matrix_flops(jax.make_jaxpr(step.__call__)(state, batch).jaxpr)
    state_bytes = 2 * _nbytes((state.params, state.opt_state, state.average)) * devices
    compiled = compiler_figures(dispatch.program, devices)
    if config.train.accumulate > 1 or config.model.encoder == "lstm":
        # Most of such a step is a loop, and the compiler counts the body of a loop once.
        compiled = dataclasses.replace(compiled, flops=None, bytes_accessed=None)
    return Work(members * flops, members * plan.input_bytes, members * state_bytes, compiled)


def _nbytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def figures(case: Case, given: CaseData, experiment: Experiment, times: Times) -> dict[str, Any]:
    """What follows from the times of a case."""
    config, placement = experiment.config, experiment.placement
    median, size = statistics.median(times.steps), config.train.batch_size
    groups, steps = given.epoch_groups, -(-given.epoch_groups // size)
    return {
        **dataclasses.asdict(case),
        "platform": placement.mesh.devices.flat[0].platform,
        "data": "simulated" if given.simulated else "real",
        "batch_size": size,
        "members": config.train.members,
        "steps_per_dispatch": config.train.steps_per_dispatch,
        "split_rows": given.data.train.rows,
        "step_seconds": {
            "median": median,
            "p95": float(np.percentile(times.steps, 95)),
            "mean": statistics.fmean(times.steps),
            "min": min(times.steps),
            "max": max(times.steps),
            "all": times.steps,
        },
        "input_wait_seconds": times.input_wait,
        "host_seconds": times.host,
        "samples_per_second": config.train.members * size / median,
        "epoch": {"groups": groups, "about": given.simulated, "steps": steps, "seconds": steps * median},
    }


def against_machine(seconds: float, work: Work, precision: str, devices: int, machine: Machine) -> dict[str, Any]:
    """A step's work over its time, beside what the devices were measured to do, and the least time that allows.

    The floor is the longer of two times: that of the products at the measured peak, and that of the least bytes at the
    measured bandwidth. Rates of bytes are of those that the compiler counts, and None where it counts none.
    """
    together = 1 if machine.shared else devices
    peak, bandwidth = machine.flops[precision] * together, machine.bandwidth * together
    arithmetic, memory = work.flops / peak, work.least_bytes / bandwidth
    floor = max(arithmetic, memory)
    accessed = work.compiled.bytes_accessed
    return {
        "flops": work.flops,
        "flops_per_second": work.flops / seconds,
        "peak_flops_per_second": peak,
        "share_of_peak": work.flops / seconds / peak,
        "least_bytes": {"input": work.input_bytes, "state": work.state_bytes, "total": work.least_bytes},
        "compiled": dataclasses.asdict(work.compiled),
        "bytes_per_second": None if accessed is None else accessed / seconds,
        "copy_bytes_per_second": bandwidth,
        "share_of_copy": None if accessed is None else accessed / seconds / bandwidth,
        "floor_seconds": floor,
        "floor_of": "arithmetic" if arithmetic >= memory else "memory",
        "over_floor": seconds / floor,
    }


def add_scaling(cases: list[dict[str, Any]]) -> None:
    """Add `scaling_efficiency` to each case: its samples/s for each device, over those of the case with the fewest
    devices among cases of the same level, feed and precision."""

    def like(case: dict[str, Any]) -> tuple[Any, ...]:
        return case["level"], case["feed"], case["precision"]

    for case in cases:
        first = min((other for other in cases if like(other) == like(case)), key=lambda other: other["devices"])
        each, base = (c["samples_per_second"] / c["devices"] for c in (case, first))
        case["scaling_efficiency"] = each / base
