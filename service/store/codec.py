"""How values stand in the database: documents as JSON, numbers that no database agrees on as words."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from search_spaces import Scalar
from service.domain.states import ValueKind

NUMBERS = {ValueKind.NAN: math.nan, ValueKind.POS_INF: math.inf, ValueKind.NEG_INF: -math.inf}
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
CANONICAL = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True)
MAX_TEXT = 4_000


def to_json(document: Any) -> str:
    """The document as JSON in one line. Raises ValueError on NaN and infinities: they are words by then."""
    return ENCODER.encode(document)


def key_of(params: Mapping[str, Scalar]) -> str:
    """SHA-256 of the canonical JSON: equal for equal parameters, whatever their order."""
    return hashlib.sha256(CANONICAL.encode(dict(params)).encode()).hexdigest()


def kind_of(number: float | None) -> ValueKind:
    """What kind of number it is."""
    if number is None:
        return ValueKind.MISSING
    if math.isnan(number):
        return ValueKind.NAN
    if math.isinf(number):
        return ValueKind.POS_INF if number > 0 else ValueKind.NEG_INF
    return ValueKind.FINITE


def finite(number: float | None) -> float | None:
    """The number for a column: None unless it is finite."""
    return number if number is not None and math.isfinite(number) else None


def number_of(value: float | None, kind: str) -> float:
    """The number that `finite` and `kind_of` took apart. Raises KeyError when it was missing."""
    return NUMBERS[ValueKind(kind)] if value is None else value


def with_words(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics for a JSON document: `nan`, `pos_inf` and `neg_inf` for what JSON cannot say."""
    return {name: number if math.isfinite(number) else str(kind_of(number)) for name, number in metrics.items()}


def without_words(metrics: Mapping[str, float | str]) -> dict[str, float]:
    """The metrics that `with_words` wrote."""
    return {name: NUMBERS[ValueKind(number)] if isinstance(number, str) else float(number) for name, number in metrics.items()}


def plain(document: Any) -> Any:
    """A document of mappings, lists, texts and numbers as every database takes it: null for what is no finite number, texts `storable`."""
    match document:
        case float():
            return finite(document)
        case str():
            return storable(document)
        case Mapping():
            return {str(name): plain(value) for name, value in document.items()}
        case list() | tuple():
            return [plain(value) for value in document]
        case _:
            return document


def storable(text: str) -> str:
    """Text from outside as every database takes it: no NUL, no lone surrogates, of bounded length."""
    return clean(text[:MAX_TEXT])


def clean(text: str) -> str:
    """The same, of any length."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def is_storable(text: str) -> bool:
    """Whether every database takes the text as it is."""
    return storable(text) == text
