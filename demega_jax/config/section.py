"""What the sections of the configuration share: the kinds of values, and how values are refused together."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from demega_jax.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
# YAML has lists where a frozen section holds tuples: the one conversion that strict typing allows.
Names = Annotated[tuple[str, ...], Field(strict=False)]
PositionTerms = Annotated[tuple[Literal["c2p", "p2c"], ...], Field(strict=False)]
Range = Annotated[tuple[float, float], Field(strict=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Levels = Positive | Annotated[tuple[Positive, ...], Field(strict=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Kernels = Annotated[tuple[Positive, Positive], Field(strict=False)]


class Section(BaseModel):
    """One section of the configuration. A section raises `UserError` where its values do not fit together."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def unfit(came: str, wanted: str, way_out: str) -> UserError:
    """Values that do not fit together; `load.py` says which file or command line they are from."""
    return UserError("the configuration", came, wanted, way_out)
