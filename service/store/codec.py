"""Encodes values for the database: JSON documents, text, and numbers that are not finite."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from search_spaces import Scalar
from service.domain.states import ValueKind
from service.domain.text import clean

NUMBERS = {ValueKind.NAN: math.nan, ValueKind.POS_INF: math.inf, ValueKind.NEG_INF: -math.inf}
# SQLite turns NaN into NULL and PostgreSQL sorts it as the largest number, so columns and JSON hold finite numbers alone. A `kind` column,
# or a string in JSON, stands for the others.
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
CANONICAL = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True)
MAX_TEXT = 4_000


def to_json(document: Any) -> str:
    """The document as JSON in one line. Raises ValueError on NaN and infinities, which callers have to encode first."""
    return ENCODER.encode(document)


def key_of(params: Mapping[str, Scalar]) -> str:
    """SHA-256 of the canonical JSON, which does not depend on the order of the parameters."""
    return hashlib.sha256(CANONICAL.encode(dict(params)).encode()).hexdigest()


def kind_of(number: float | None) -> ValueKind:
    """The kind of the number; MISSING for None."""
    if number is None:
        return ValueKind.MISSING
    if math.isnan(number):
        return ValueKind.NAN
    if math.isinf(number):
        return ValueKind.POS_INF if number > 0 else ValueKind.NEG_INF
    return ValueKind.FINITE


def finite(number: float | None) -> float | None:
    """The number if it is finite, else None."""
    return number if number is not None and math.isfinite(number) else None


def number_of(value: float | None, kind: str) -> float:
    """The number that `finite` and `kind_of` encoded. Raises KeyError for a missing one."""
    return NUMBERS[ValueKind(kind)] if value is None else value


def encode_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics for a JSON document, with `nan`, `pos_inf` and `neg_inf` as strings."""
    return {name: number if math.isfinite(number) else str(kind_of(number)) for name, number in metrics.items()}


def decode_metrics(metrics: Mapping[str, float | str]) -> dict[str, float]:
    """Decode the metrics that `encode_metrics` encoded."""
    return {name: NUMBERS[ValueKind(number)] if isinstance(number, str) else float(number) for name, number in metrics.items()}


def plain(document: Any, most_text: int | None = MAX_TEXT) -> Any:
    """A JSON document that both databases accept: None replaces numbers that are not finite.

    Strings are cut after `most_text` characters; None keeps them whole.
    """
    match document:
        case float():
            return finite(document)
        case str():
            return _encodable(document[:most_text])  # not `cleaned`: it may be a file name or label of the data set
        case Mapping():
            return {str(name): plain(value, most_text) for name, value in document.items()}
        case list() | tuple():
            return [plain(value, most_text) for value in document]
        case _:
            return document


def storable(text: str) -> str:
    """External text for a column: `cleaned`, and at most MAX_TEXT characters."""
    return cleaned(text[:MAX_TEXT])


def cleaned(text: str) -> str:
    """External text without characters that a database rejects or that control a terminal: messages, logs, host names.

    Applied to reports of workers and to imported files. Names of parameters and in the data set are stored unchanged; commands clean
    their output.
    """
    return _encodable(clean(text))


def _encodable(text: str) -> str:
    """The text without NUL and lone surrogates, which PostgreSQL and UTF-8 reject."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def is_storable(text: str) -> bool:
    """Whether both databases accept the text unchanged. No stored name equals any other text, so queries can skip the database."""
    return _encodable(text[:MAX_TEXT]) == text
