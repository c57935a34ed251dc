"""The resident feed: a whole split lies on the devices, which draw the order of rows and gather batches themselves."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from demega_jax.data.feeds.device_feed import DeviceFeed, DevicePlan, filled
from demega_jax.data.feeds.feed import SHARDED, Placement, RowSpec, batch_specs, sampling_line
from demega_jax.data.feeds.shares import deal, with_empty
from demega_jax.data.feeds.stream import SplitPlan
from demega_jax.data.split import STATISTICS, Split
from demega_jax.errors import counted, warn
from demega_jax.files import format_bytes
from demega_jax.names import Norm
from demega_jax.signal.normalize import normalize

FILL_BYTES = 2**26  # bytes of rows that are copied to the devices at a time
LARGEST_HALF = 6e4  # float16 ends at 65,504


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ResidentPlan(DevicePlan, SplitPlan):
    """The plan of a `ResidentFeed`.

    normalize: how windows are normalised once, when they are put on the devices; None: they stay unchanged.
    """

    rows: Split
    normalize: Norm | None = None
    name = "resident"

    @property
    def normalization(self) -> str | None:
        """How the windows of a batch are normalised already."""
        return self.normalize or self.rows.normalization

    @property
    def beside(self) -> list[str]:
        """Arrays of the rows that a batch has: statistics are not needed once they have been used."""
        return [name for name in self.rows.row_array_sizes if not self.normalize or name not in STATISTICS]

    @property
    def batch(self) -> Mapping[str, RowSpec]:
        """The arrays of a batch by name."""
        beside = {name: self.rows.row_array_sizes[name] for name in self.beside}
        return batch_specs(self.rows.window, self.rows.dtype, beside) | {
            "x": RowSpec(self.rows.window, np.dtype(self.dtype))
        }

    def device_bytes(self, devices: int) -> int:
        """Bytes of the rows, and of their statistics, on each device."""
        held = [spec for name, spec in self.batch.items() if name not in ("label", "valid")]
        row_bytes = sum(int(np.prod(spec.shape)) * spec.dtype.itemsize for spec in held)
        return -(-self.rows.rows // self.shares) * -(-self.shares // devices) * row_bytes

    def held(self, devices: int) -> tuple[str, list[str]]:
        """The rows, and what else takes less memory on the devices."""
        return f"{self.rows.rows} rows", ["more --devices", "a higher --level", "data.feed=stream"]

    def describe(self, devices: int) -> list[str]:
        """The memory that the rows take on each device, and how they are sampled."""
        size = format_bytes(self.device_bytes(devices))
        line = f"{'feed':<10} {self.name}: {size} of {self.dtype} windows on each device"
        return [line, *sampling_line(self.rows, self.sampling)]

    def open(self, placement: Placement) -> "ResidentFeed":
        """The feed itself, at its first step, with the split on the devices."""
        return ResidentFeed(self, placement)


class ResidentFeed(DeviceFeed):
    """Training batches without end from a split that lies on the devices; a pure function of (seed, step).

    Batches have x [B, C, T], label [B], valid [B] and the split's other arrays of rows. Stored as float16, raw values
    beyond 6e4 are set to it, with a warning; normalised ones without, as they are of sensors without a spread.
    """

    def __init__(self, plan: ResidentPlan, placement: Placement):
        split, dtype = plan.rows, np.dtype(plan.dtype)
        rows = with_empty(deal(split.labels, plan.shares, plan.shares_seed), plan.places(placement), -1)
        super().__init__(split.labels[rows], rows >= 0, plan, placement, SHARDED)
        mine = rows[placement.own(len(rows))]  # a process reads the rows of its own devices
        parts = self._stored(split, mine, dtype) if plan.normalize is None else self._normalized(plan, mine)
        x = filled((*rows.shape, *split.window), dtype, parts, SHARDED, placement)
        small = {"label": split.labels.astype(np.int32)} | {name: split.row_arrays[name] for name in plan.beside}
        of_rows = {name: placement.put(values[np.maximum(rows, 0)], SHARDED) for name, values in small.items()}
        self._arrays = {"x": x} | of_rows

    def _stored(self, split: Split, rows: Int[np.ndarray, "S n"], dtype: np.dtype) -> Iterator[Array]:
        """Windows of the shares' rows on the devices, as they are stored, a few rows of every share at a time."""
        for x in _windows(split, rows, dtype):
            yield self._placement.put_own(x, SHARDED)

    def _normalized(self, plan: ResidentPlan, rows: Int[np.ndarray, "S n"]) -> Iterator[Array]:
        """Normalised windows of the shares' rows on the devices, a few rows of every share at a time.

        Done once, instead of in every step: median and quartiles cost a step more than its losses.
        """
        how, dtype = plan.normalize, np.dtype(plan.dtype)
        assert how is not None

        def prepare(part: dict[str, Array]) -> Array:
            x = normalize(part.pop("x"), how, part)
            return (jnp.clip(x, -LARGEST_HALF, LARGEST_HALF) if dtype == np.float16 else x).astype(dtype)

        prepared = self._placement.on_shares(prepare, specs=(SHARDED,), result=SHARDED)
        statistics = {name: values for name, values in plan.rows.row_arrays.items() if name in STATISTICS}
        first = 0
        for x in _windows(plan.rows, rows, plan.rows.dtype):
            chosen = np.maximum(rows[:, first : first + x.shape[1]], 0)
            part = {"x": x} | {name: values[chosen] for name, values in statistics.items()}
            yield prepared({name: self._placement.put_own(values, SHARDED) for name, values in part.items()})
            first += x.shape[1]

    def _gather(self, arrays: dict[str, Array], row: Int[Array, "s p"], slot: Int[Array, ""]) -> dict[str, Array]:
        """Rows of each share, by their numbers there."""
        batch = {name: jax.vmap(lambda values, i: values[i])(values, row) for name, values in arrays.items()}
        return {name: values.reshape(-1, *values.shape[2:]) for name, values in batch.items()}


def _windows(split: Split, rows: Int[np.ndarray, "S n"], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Windows [S, k, C, T] of the shares' rows, a few rows of every share at a time."""
    reader, saturated = split.reader(), 0
    step = max(1, FILL_BYTES // (split.sensors * split.time_points * 4 * len(rows)))
    for first in range(0, rows.shape[1], step):
        chosen = rows[:, first : first + step]
        read = reader.read(np.maximum(chosen, 0).ravel())
        if dtype == np.float16 and split.dtype != np.float16:
            saturated += int((np.abs(read) > LARGEST_HALF).sum())
            read = np.clip(read, -LARGEST_HALF, LARGEST_HALF)
        yield read.astype(dtype, copy=False).reshape(*chosen.shape, *split.window)
    if saturated:
        count = counted(saturated, "value", "were")
        warn(f"{split.path}: {count} beyond {LARGEST_HALF:g}, and set to it (data.dtype=float16)")
