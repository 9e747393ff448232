"""Read YAML and JSON documents into plain values, report values that are not plain as faults, and write what JSON can represent."""

import json
import math
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import yaml

from search_spaces.faults import Fault, Faulty, Path, raise_if_any

MAX_BYTES = 1024 * 1024
MAX_YAML_BYTES = 256 * 1024  # takes about a second to parse
MAX_DEPTH = 32
MAX_INTEGER = 2**53
PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Loader(yaml.SafeLoader):
    """YAML loader with the numbers and booleans of YAML 1.2: `1e-5` is a number, `no` is text. Rejects aliases, tags and duplicates."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML defines the attribute so)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.duplicates: list[Fault] = []

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise Faulty([Fault((), "yaml_alias", "aliases (*name) are not accepted; write the value out")])
        if getattr(self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            raise Faulty([Fault((), "yaml_tag", "tags (!name) are not accepted; write the plain value")])
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if any(not isinstance(key, str) for key in keys):
            raise Faulty([Fault((), "key_not_text", "every key must be text; put it in quotes")])
        if len(set(keys)) < len(keys):
            self.duplicates += _yaml_duplicates(keys, [key.start_mark.line + 1 for key, _ in node.value])
        return super().construct_mapping(node, deep=True)


def _yaml_duplicates(keys: list[Any], lines: list[int]) -> Iterator[Fault]:
    first: dict[Any, int] = {}
    for key, line in zip(keys, lines, strict=True):
        if key in first:
            yield _duplicate(key, f" in line {first[key]} and in line {line}")
        first.setdefault(key, line)


def _duplicate(key: str, where: str = "") -> Fault:
    named = f"the key {key}" if PLAIN_KEY.match(key) else "a key"
    return Fault((), "duplicate_key", f"{named} appears twice in one mapping{where and ','}{where}; remove one")


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", "~nN\0"),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("int", r"[-+]?[0-9]+\Z", "-+0123456789"),
    ("float", r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first.replace("\0", "")) + [""] * ("\0" in _first)
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = str(loader.construct_scalar(node))
    if len(digits) > 20:  # int() takes quadratic time
        return MAX_INTEGER + 1
    return int(digits)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def from_file(file: pathlib.Path) -> Any:
    """The value of a document in a file: JSON if its suffix is .json, otherwise YAML. Raises Faulty."""
    is_json = file.suffix.lower() == ".json"
    text = text_of(file, MAX_BYTES if is_json else MAX_YAML_BYTES)
    return from_json(text) if is_json else from_yaml(text)


def text_of(file: pathlib.Path, limit: int) -> str:
    """The file's text: UTF-8, at most `limit` bytes. Raises Faulty."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit + 1)
        if len(raw) > limit:
            raise Faulty([too_large(limit)])
        return raw.decode("utf-8")
    except OSError as error:
        raise Faulty([Fault((), "unreadable_file", f"the file cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise Faulty([Fault((), "not_utf8", "the file is not UTF-8 text; save it as UTF-8")]) from None


def from_yaml(text: str) -> Any:
    """The document's value. Raises Faulty when it is not YAML, too deep, or holds aliases, tags or duplicate keys."""
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        value = loader.get_single_data()
        raise_if_any(loader.duplicates)
        return value
    except Faulty:
        raise
    except (yaml.YAMLError, ValueError) as error:  # PyYAML raises ValueError for an escape beyond Unicode
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark is not None else ""
        if "'\\t'" in str(getattr(error, "problem", "")):
            raise Faulty(
                [Fault((), "malformed_yaml", f"there is a tab{where}, which YAML does not accept as indentation; write spaces")]
            ) from None
        raise Faulty([Fault((), "malformed_yaml", f"this is not valid YAML{where}; correct it")]) from None


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Faulty([_too_deep()])


def from_json(text: str) -> Any:
    """The document's value. Raises Faulty when it is not JSON, too deep, or has duplicate keys.

    Accepts NaN and Infinity, so that `impurities` can report their paths.
    """
    if _json_depth(text) > MAX_DEPTH:
        raise Faulty([_too_deep()])
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_bounded_int)
    except json.JSONDecodeError as error:
        raise Faulty([Fault((), "malformed_json", f"this is not valid JSON near line {error.lineno}; correct it")]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise Faulty([_duplicate(key) for key, count in counts.items() if count > 1])
    return found


def _bounded_int(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else MAX_INTEGER + 1


# Possessive quantifiers and the alternative \Z make an unterminated string match up to the end of the text. Otherwise the search would
# start again at each quote in it, which takes quadratic time.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def _json_depth(text: str) -> int:
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
        if (deepest := max(deepest, depth)) > MAX_DEPTH:
            break
    return deepest


def too_large(limit: int) -> Fault:
    """The fault of a document that is longer than the limit of its format, found before parsing."""
    return Fault((), "too_many_bytes", f"at most {limit} bytes are accepted; shorten the document")


def _too_deep() -> Fault:
    return Fault((), "too_deep", f"the document is nested deeper than {MAX_DEPTH} levels; flatten it")


def impurities(value: Any, path: Path = ()) -> Iterator[Fault]:
    """A fault for each number that is not finite or too large, and for each text with control or similar characters."""
    match value:
        case float() if not math.isfinite(value):
            yield Fault(path, "not_finite", "NaN and Infinity are not accepted; write a finite number")
        case int() if not isinstance(value, bool) and abs(value) > MAX_INTEGER:
            yield Fault(path, "too_large", "whole numbers must be between -2^53 and 2^53")
        case str() if any(map(_is_forbidden, value)):
            yield Fault(path, "invalid_text", "control, bidirectional-override and surrogate characters are not accepted; remove them")
        case dict():
            for key, item in value.items():
                if any(map(_is_forbidden, key)):
                    yield Fault(path, "invalid_name", "a key contains control, bidirectional-override or surrogate characters; remove them")
                else:
                    yield from impurities(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from impurities(item, (*path, index))


def _is_forbidden(character: str) -> bool:
    return character in BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs")


def plain(value: Any) -> Any:
    """The value itself. Raises Faulty when it has impurities."""
    raise_if_any(impurities(value))
    return value


def finite(value: Any) -> Any:
    """The value with None for each number that is not finite, which JSON cannot represent."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value
