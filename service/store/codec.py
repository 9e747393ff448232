"""How values stand in the database: documents as JSON, numbers that no database agrees on as words."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from search_spaces import Scalar
from service.domain.states import ValueKind
from service.domain.text import clean

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


def plain(document: Any, most_text: int | None = MAX_TEXT) -> Any:
    """A document of mappings, lists, texts and numbers as every database takes it: null for what is no finite number.

    Texts are cut behind `most_text` characters; None: kept whole.
    """
    match document:
        case float():
            return finite(document)
        case str():
            return _encodable(document[:most_text])  # it may be a name in the data, which stays as the data has it
        case Mapping():
            return {str(name): plain(value, most_text) for name, value in document.items()}
        case list() | tuple():
            return [plain(value, most_text) for value in document]
        case _:
            return document


def storable(text: str) -> str:
    """Text from outside for a column: `cleaned`, and of bounded length."""
    return cleaned(text[:MAX_TEXT])


def cleaned(text: str) -> str:
    """Text from outside as every database takes it and every terminal may show it: what people said, a log, the name of a machine.

    What comes from a file of another server is cleaned as well as what workers report. Names in the data and of parameters are data and
    are stored as they are; commands clean what they print.
    """
    return _encodable(clean(text))


def _encodable(text: str) -> str:
    """Without NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def is_storable(text: str) -> bool:
    """Whether every database takes the text as it is, so that it can be the name of something stored."""
    return _encodable(text[:MAX_TEXT]) == text
