"""Values as JSON has them: numbers finite or null, times in UTC."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


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


def instant(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def instant_or_none(seconds: float | None) -> datetime | None:
    """The same, of a time that may not have come."""
    return None if seconds is None else instant(seconds)
