"""Grouping levels of the command line."""

from demega_jax.errors import UserError


def parse_levels(text: str) -> int | tuple[int, ...]:
    """`5` or `5,10` of the command line."""
    try:
        levels = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError("--level", repr(text), "a grouping level, or several as 5,10", "mend it") from None
    return levels if len(levels) > 1 else levels[0]
