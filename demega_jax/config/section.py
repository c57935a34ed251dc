"""What the sections of the configuration share: the kinds of values, and how values are refused together."""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from demega_jax.errors import UserError
from demega_jax.files import expanded
from demega_jax.names import MAX_BATCH, MAX_COUNT, MAX_LEVEL, MAX_SEED, MAX_SIZE, MAX_WIDTH

MAX_FLOAT = 3.4e38  # where float32 ends: a larger number would be infinite there
Positive = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Level = Annotated[int, Field(gt=0, le=MAX_LEVEL)]
Size = Annotated[int, Field(gt=0, le=MAX_SIZE)]  # in sensors or time points
Width = Annotated[int, Field(gt=0, le=MAX_WIDTH)]
WidthOrNone = Annotated[int, Field(ge=0, le=MAX_WIDTH)]  # 0: there is no such part
BatchSize = Annotated[int, Field(gt=0, le=MAX_BATCH)]
UpToThousand = Annotated[int, Field(gt=0, le=1000)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, le=MAX_FLOAT, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, le=MAX_FLOAT, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
# YAML has lists where a frozen section holds tuples: the one conversion that strict typing allows.
ListField = Field(strict=False)


def _usable_path(text: str) -> str:
    """A path that the system can take, with the home folder for `~`. UserError: it is empty, or has characters that no
    path has."""
    try:
        sound = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise unfit(f"the path {text!r}", "a path that is not empty, of characters that paths have", "correct the path")
    return expanded(text)


def _plain_name(text: str) -> str:
    """A name that every kind of file can hold. UserError: it is empty, or has characters that are no text."""
    if not text or any(one == "\0" or "\ud800" <= one <= "\udfff" for one in text):
        raise unfit(f"the name {text!r}", "a name that is not empty, of characters that are text", "correct the name")
    return text


PathText = Annotated[str, AfterValidator(_usable_path)]
Names = Annotated[tuple[Annotated[str, AfterValidator(_plain_name)], ...], ListField]


class Section(BaseModel):
    """One section of the configuration. A section raises `UserError` where its values do not fit together.

    The text below a key is its meaning: the description of its field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def unfit(came: str, wanted: str, way_out: str) -> UserError:
    """Values that do not fit together; `load.py` says which file or command line they are from."""
    return UserError("the configuration", came, wanted, way_out)
