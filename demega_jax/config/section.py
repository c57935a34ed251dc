"""What the sections of the configuration share: the kinds of values, and how values are refused together."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from demega_jax.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# YAML has lists where a frozen section holds tuples: the one conversion that strict typing allows.
ListField = Field(strict=False)
Names = Annotated[tuple[str, ...], ListField]


class Section(BaseModel):
    """One section of the configuration. A section raises `UserError` where its values do not fit together.

    The text below a key is its meaning: the description of its field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def unfit(came: str, wanted: str, way_out: str) -> UserError:
    """Values that do not fit together; `load.py` says which file or command line they are from."""
    return UserError("the configuration", came, wanted, way_out)
