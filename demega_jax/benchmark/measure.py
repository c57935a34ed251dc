"""Time and memory of a training step, and how far it is from what the machine could do."""

import collections
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demega_jax.benchmark.cases import Case, CaseData
from demega_jax.benchmark.flops import matrix_flops
from demega_jax.benchmark.machine import Machine, forget_peak_memory, peak_memory
from demega_jax.benchmark.traffic import Activations, activations
from demega_jax.data.feeds.feed import Feed
from demega_jax.training.dispatch import Dispatch, compile_dispatch
from demega_jax.training.in_flight import DISPATCHES_IN_FLIGHT
from demega_jax.training.memory import available_memory, check_memory
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
    """Seconds of each step [n] (a dispatch's share, where one starts several), and the means of what the host did:
    waiting for input, and that with starting the step."""

    steps: list[float]
    input_wait: float
    host: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step has to do on all devices together: FLOPs of products and convolutions, and bytes.

    The least of bytes: input read once, parameters and optimizer state read and written on every device, and each
    activation that the backward pass needs written and read once.

    activations: of one model's microbatch.  microbatches: of all models.
    """

    flops: int
    input_bytes: int
    state_bytes: int
    activations: Activations
    microbatches: int = 1

    @property
    def activation_bytes(self) -> int:
        """Written and read."""
        return 2 * self.activations.nbytes * self.microbatches

    @property
    def nbytes(self) -> int:
        """All of them."""
        return self.input_bytes + self.state_bytes + self.activation_bytes


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
    return found | {"peak_memory_bytes": peak, "peak_memory_of": source}, step_work(experiment)


def compile_step(experiment: Experiment, feed: Feed, state: Any) -> tuple[Dispatch, dict[str, Any]]:
    """What the training loop would start at a time, compiled, and figures. Refuses a batch that memory cannot hold."""
    placement, config = experiment.placement, experiment.config.train
    hits: list[str] = []
    listen = lambda event, **_: hits.append(event)  # noqa: E731
    jax.monitoring.register_event_listener(listen)
    try:
        dispatch = compile_dispatch(experiment, feed, state)
    finally:
        jax.monitoring.unregister_event_listener(listen)
    available, multiple = available_memory(placement.mesh.devices.flat[0]), placement.devices * config.accumulate
    check_memory(dispatch.need, available, config.batch_size, multiple, placement.sharing)
    return dispatch, {
        "compile_seconds": dispatch.seconds,
        "compiled_from_cache": CACHE_HIT in hits,
        "step_memory_bytes": dispatch.need.total,
        "feed_memory_bytes": experiment.data.plan.device_bytes(placement.devices),
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


def step_work(experiment: Experiment) -> Work:
    """What a step has to do, counted in its jaxpr."""
    config, step = experiment.config, experiment.train_step
    members = config.train.members
    state = jax.eval_shape(experiment.fresh_state)
    if members > 1:  # of one of them: the step is that of a model
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)
    size = config.train.batch_size

    def batch_of(rows: int) -> dict[str, Any]:
        return {
            name: jax.ShapeDtypeStruct((rows, *shape), dtype)
            for name, (shape, dtype) in experiment.data.plan.batch.items()
        }

    part = size // config.train.accumulate
    flops = matrix_flops(jax.make_jaxpr(step.__call__)(state, batch_of(size)).jaxpr)
    kept = activations(
        lambda params, buffers, batch, keys: step.losses(params, buffers, batch, keys, None)[0],
        state.params, state.buffers, batch_of(part), jax.ShapeDtypeStruct((part, 2), jnp.uint32),
    )  # fmt: skip
    trained = (state.params, state.opt_state, state.average)
    read = experiment.data.plan.input_bytes
    state_bytes = 2 * _nbytes(trained) * experiment.placement.devices
    return Work(members * flops, members * read, members * state_bytes, kept, members * config.train.accumulate)


def _nbytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def figures(case: Case, given: CaseData, experiment: Experiment, times: Times) -> dict[str, Any]:
    """What follows from the times of a case."""
    config, placement = experiment.config, experiment.placement
    median, size = statistics.median(times.steps), config.train.batch_size
    steps = -(-given.epoch_groups // size)
    return {
        **dataclasses.asdict(case),
        "platform": placement.mesh.devices.flat[0].platform,
        "data": "simulated" if given.simulated else "real",
        "batch_size": size,
        "members": config.train.members,
        "steps_per_dispatch": config.train.steps_per_dispatch,
        "split_rows": given.data.train.rows,
        "step_seconds": {
            "median": median, "p95": float(np.percentile(times.steps, 95)), "mean": statistics.fmean(times.steps),
            "min": min(times.steps), "max": max(times.steps), "all": times.steps,
        },
        "input_wait_seconds": times.input_wait,
        "host_seconds": times.host,
        "samples_per_second": config.train.members * size / median,
        "epoch": {
            "groups": given.epoch_groups, "about": given.about, "steps": steps, "seconds": steps * median
        },
    }  # fmt: skip


def against_machine(seconds: float, work: Work, precision: str, devices: int, machine: Machine) -> dict[str, Any]:
    """A step's work over its time, beside what the devices were measured to do, and the least time that allows."""
    together = 1 if machine.shared else devices
    peak, bandwidth = machine.flops[precision] * together, machine.bandwidth * together
    arithmetic, memory = work.flops / peak, work.nbytes / bandwidth
    floor = max(arithmetic, memory)
    return {
        "flops": work.flops,
        "flops_per_second": work.flops / seconds,
        "peak_flops_per_second": peak,
        "share_of_peak": work.flops / seconds / peak,
        "bytes": {
            "input": work.input_bytes, "state": work.state_bytes, "activations": work.activation_bytes,
            "total": work.nbytes,
        },
        "activations": [dataclasses.asdict(kept) for kept in work.activations.kept],
        "residual_bytes": work.activations.residuals,
        "bytes_per_second": work.nbytes / seconds,
        "copy_bytes_per_second": bandwidth,
        "share_of_copy": work.nbytes / seconds / bandwidth,
        "floor_seconds": floor,
        "floor_of": "arithmetic" if arithmetic >= memory else "memory",
        "over_floor": seconds / floor,
    }  # fmt: skip


def add_scaling(cases: list[dict[str, Any]]) -> None:
    """`scaling_efficiency` of each: samples/s a device, over those of the fewest devices of the like cases."""
    like = lambda case: (case["level"], case["feed"], case["precision"])  # noqa: E731
    for case in cases:
        first = min((other for other in cases if like(other) == like(case)), key=lambda other: other["devices"])
        each, base = (c["samples_per_second"] / c["devices"] for c in (case, first))
        case["scaling_efficiency"] = each / base
