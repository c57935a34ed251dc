"""The interfaces of feeds: what a plan knows before data are read, what a feed gives, what it needs from the devices.

A `PartitionSpec` of jax says how an array is sharded, over two logical axes: "member" (models that train side by
side) and "share" (a fixed part of the rows; a device holds whole shares). Only `training.parallel` turns these logical
axes into the axes of a mesh.
"""

import abc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, Self

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from demega_jax.data.split import LabelledRows

MEMBER, SHARE = "member", "share"
REPLICATED, SHARDED = PartitionSpec(), PartitionSpec(SHARE)
MEMBER_REPLICATED, MEMBER_SHARDED = PartitionSpec(MEMBER), PartitionSpec(MEMBER, SHARE)

Sampling = Literal["uniform", "balanced"]
Batch = Mapping[str, jax.Array]
NOTHING: Mapping[str, int] = {}
ShareFunction = Callable[..., PyTree]  # of arrays that hold a device's shares


class RowSpec(NamedTuple):
    """Shape and type of one row of an array in a batch."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Placement(Protocol):
    """How feeds put data on the devices; `training.parallel.Placement` implements it."""

    @property
    def mode(self) -> Literal["jit", "pmap"]:
        """How several devices share a step."""
        ...

    @property
    def devices(self) -> int:
        """Number of devices."""
        ...

    @property
    def process(self) -> int:
        """The number of this process among those that train together."""
        ...

    @property
    def processes(self) -> int:
        """How many processes train together."""
        ...

    def padded(self, parts: int, rows: int = 1) -> int:
        """How many parts of a batch lie on the devices, with those of padding, which come last."""
        ...

    def own(self, count: int) -> slice:
        """Which of `count` shares are on devices of this process."""
        ...

    def put_own(self, array: np.ndarray, spec: PartitionSpec) -> jax.Array:
        """Put the shares of this process on its devices, as its part of an array of all shares."""
        ...

    def free_bytes(self) -> int | None:
        """Free bytes on each device; None where that is unknown."""
        ...

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Put a host batch on the devices, sharded by rows. The call can return before the transfer has ended."""
        ...

    def put(self, array: np.ndarray | np.generic, spec: PartitionSpec) -> jax.Array:
        """Put a host array on the devices, sharded or replicated."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype, spec: PartitionSpec) -> jax.Array:
        """Zeros that are made on the devices, and lie in memory in the order of their axes."""
        ...

    def on_shares(
        self,
        function: ShareFunction,
        *,
        specs: PyTree,
        result: PartitionSpec,
        donate: tuple[int, ...] = (),
        finish: ShareFunction | None = None,
        axes: int | None = None,
    ) -> ShareFunction:
        """`function`, compiled to run on each device for its own shares; nothing crosses devices.

        axes: of a result that lies in memory in their order, as `zeros` do.
        """
        ...


class Feed(abc.ABC):
    """Training batches on the devices, without end; `next` gives the batch of the next step.

    The position is one number, the step whose batch comes next; `restore` continues from there.
    """

    draw: Callable[..., Batch] | None = None
    """Makes a batch from the results of `take`, inside a larger compiled program. None: batches come from the host."""

    def __init__(self) -> None:
        self._next_step, self._waited = 0, 0.0

    def __iter__(self) -> Self:
        return self

    @abc.abstractmethod
    def __next__(self) -> Batch:
        """The batch of the next step."""

    def take(self, steps: int) -> tuple[PyTree, ...]:
        """The arguments from which `draw` makes the next `steps` batches."""
        raise NotImplementedError("batches of this feed come from the host")

    def take_input_wait(self) -> float:
        """Seconds that were spent waiting for batches since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Count the time that passes inside as waiting for input."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def state(self) -> dict[str, int]:
        """What `restore` needs to continue with the next batch."""
        return {"next_step": self._next_step}

    def restore(self, state: Mapping[str, int]) -> None:
        """Continue with the batch of the step in `state`."""
        self.close()
        self._next_step = state["next_step"]

    @abc.abstractmethod
    def close(self) -> None:
        """Stop reading, and free what the feed holds."""


class FeedPlan(abc.ABC):
    """What is known of a feed before data are read."""

    name: str  # of `data.feed`
    batch_size: int
    rows: LabelledRows  # of an epoch: labels, classes and shape

    @property
    @abc.abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""

    @property
    @abc.abstractmethod
    def batch(self) -> Mapping[str, RowSpec]:
        """The arrays of a batch by name."""

    @property
    def input_bytes(self) -> int:
        """Bytes of the rows that are read for a batch."""
        each = sum(int(np.prod(spec.shape)) * spec.dtype.itemsize for spec in self.batch.values())
        return each * self.batch_size

    @property
    def normalization(self) -> str | None:
        """How the windows of a batch are normalised already; None: they are not."""
        return self.rows.normalization

    def placed_rows(self, placement: Placement) -> int:
        """Rows of a batch on the devices, with those of padding that make them equally many on each."""
        return placement.padded(self.batch_size)

    def device_bytes(self, devices: int) -> int:
        """Bytes that stay on each device from step to step."""
        return 0

    @abc.abstractmethod
    def check(self, placement: Placement) -> None:
        """UserError: these devices cannot share the batches, or cannot hold what stays on them."""

    def check_spread(self, how: str) -> None:  # noqa: B027  (recordings are standardised anyway)
        """Warn if the windows are too small for this normalisation, as data in tesla are."""

    def describe(self, devices: int) -> list[str]:
        """Lines of text about how batches are made. Each begins with a word of at most ten letters."""
        return []

    @abc.abstractmethod
    def open(self, placement: Placement) -> Feed:
        """The feed itself, at its first step."""


def batch_specs(window: tuple[int, int], dtype: np.dtype, beside: Mapping[str, int] = NOTHING) -> dict[str, RowSpec]:
    """The arrays of a batch of windows (sensors, time points): x, label, valid, and the `row_arrays`."""
    specs = {
        "x": RowSpec(window, np.dtype(dtype)),
        "label": RowSpec((), np.dtype(np.int32)),
        "valid": RowSpec((), np.dtype(bool)),
    }
    return specs | {name: RowSpec((size,), np.dtype(np.float32)) for name, size in beside.items()}


def sampling_line(rows: LabelledRows, sampling: Sampling) -> list[str]:
    """How often rows of each class are drawn, relative to their share; nothing for uniform sampling."""
    if sampling == "uniform":
        return []
    counts = rows.class_counts()
    weights = rows.rows / (np.count_nonzero(counts) * np.maximum(counts, 1))
    listed = [f"{name} {w:.2f}" for name, w, count in zip(rows.classes, weights, counts, strict=True) if count]
    return [f"{'sampling':<10} balanced, weight of a row: {' '.join(listed)}"]
