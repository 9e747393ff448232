"""What every answer is: a frozen value in which each number is finite or null."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """An answer. Frozen, as all values are."""

    model_config = ConfigDict(frozen=True)


def finite(value: Any) -> Any:
    """The value with null for each number that JSON cannot say."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value
