"""Values of test examples in reports: base64 of little-endian numbers. `kind` is a type of NumPy, such as "<f2". Imports no torch."""

import base64
import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy takes long to import
    import numpy as np
    from numpy.typing import NDArray


def encode(values: "NDArray[Any]", kind: str) -> str:
    """The values, rounded to the type."""
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def decode(text: str, kind: str) -> "NDArray[np.float64]":
    """The values, in one dimension."""
    import numpy as np

    return np.frombuffer(base64.b64decode(text), dtype=kind).astype(np.float64)


def bytes_of(text: str) -> bytes | None:
    """The encoded bytes; None for a text that is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
