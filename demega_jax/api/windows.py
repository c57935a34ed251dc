"""The options that say which part of a recording a window is."""

from demega_jax.errors import UserError
from demega_jax.names import MAX_SECONDS


def check_seconds(tmin: float, tmax: float) -> None:
    """UserError: --tmin or --tmax is no number of seconds after an event."""
    for option, seconds in (("--tmin", tmin), ("--tmax", tmax)):
        if not abs(seconds) <= MAX_SECONDS:  # nor is NaN
            wanted = f"seconds after the onset, from {-MAX_SECONDS:g} to {MAX_SECONDS:g}"
            raise UserError(option, str(seconds), wanted, f"write for example {option} 0.5")
