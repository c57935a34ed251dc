"""Relative positions of disentangled attention (He et al., 2021, DeBERTa, section 3.1, with log buckets)."""

import numpy as np
from jaxtyping import Int


def log_bucket(distance: Int[np.ndarray, "..."], num_buckets: int, max_distance: int) -> Int[np.ndarray, "..."]:
    """Bucket of a signed distance: exact up to num_buckets / 2, then logarithmic up to max_distance.

    `num_buckets` 0: the distance itself.
    """
    distance = np.asarray(distance)
    if not num_buckets:
        return distance.astype(np.int64)
    mid = num_buckets // 2
    magnitude = np.maximum(np.abs(distance), 1).astype(np.float64)
    log_position = np.ceil(np.log(magnitude / mid) / np.log((max_distance - 1) / mid) * (mid - 1)) + mid
    return np.where(np.abs(distance) <= mid, distance, np.sign(distance) * log_position).astype(np.int64)


def relative_buckets(time_points: int, num_buckets: int, max_distance: int) -> Int[np.ndarray, "T S"]:
    """Bucket of (query - key) for every pair of positions."""
    positions = np.arange(time_points)
    return log_bucket(positions[:, None] - positions[None, :], num_buckets, max_distance)


def table_size(num_buckets: int, max_distance: int) -> int:
    """R: half the rows of the position table."""
    return num_buckets or max_distance


def table_rows(time_points: int, num_buckets: int, max_distance: int) -> Int[np.ndarray, "T S"]:
    """Row of the position table, [2R, E], for every pair (query, key): clip(bucket + R, 0, 2R - 1).

    The buckets are odd, so the position-to-content row c'(key - query) is the same number as c(query - key).
    """
    size = table_size(num_buckets, max_distance)
    return np.clip(relative_buckets(time_points, num_buckets, max_distance) + size, 0, 2 * size - 1)
