"""A part of a translated document as the line of YAML that a person is to write."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

from search_spaces import Path
from service.domain.samplers import Pruner, Sampler
from service.domain.spec import Budget, Confirm, Limits, Objective, StudySpec
from service.domain.synonyms.tables import PRUNERS, SAMPLERS, Names

LONGEST_LINE = 1_000  # characters
LONGEST_PATH = 256
NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?\Z")
PLAIN_PATH = re.compile(r"[\w./~ +@=-]+\Z")
PLAIN_NAME = re.compile(r"[\w. -]{1,128}\Z")


def line(ours: Names, document: Mapping[str, Any], part: Path) -> str:
    """The part in YAML's flow form, in backticks, with the section that it belongs to when that is not the top level."""
    value: Any = document
    for name in part:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    text = f"{part[-1]}: {flow(ours, value, str(part[-1]))}"
    where = f" under {part[0]}" if len(part) > 1 else ""
    return f"`{text}`{where}" if len(text) <= LONGEST_LINE else f"`{part[-1]}: ...`{where} (with all of its values)"


def flow(ours: Names, value: Any, name: str = "") -> str:
    """The value in YAML's flow form. `name` is the field that it belongs to.

    A text is repeated only when it is one of our own words, a path, or the study's name; another one is shown as `...`, so that an
    answer does not carry foreign text to a page or a log.
    """
    match value:
        case dict():
            return (
                "{"
                + ", ".join(
                    f"{key if key in _words(ours) else '...'}: {flow(ours, item, '' if key == 'name' else str(key))}"
                    for key, item in value.items()
                )
                + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(flow(ours, item, name) for item in value) + "]"
        case float():
            digits = repr(value)  # 1e-05 is text for some readers of YAML, 1.0e-05 is a number for all
            return digits.replace("e", ".0e") if "e" in digits and "." not in digits else digits
        case str():
            return _text(ours, value, name)
        case _:
            return json.dumps(value)


def _text(ours: Names, text: str, name: str) -> str:
    if text in _words(ours):
        return text
    is_path = name in ("path", "weights") and "/" in text and len(text) <= LONGEST_PATH and PLAIN_PATH.match(text)
    if is_path or (name == "name" and PLAIN_NAME.match(text)):
        return json.dumps(text, ensure_ascii=False)
    return "..."


@cache
def _words(ours: Names) -> frozenset[str]:
    """All words that a line may repeat: names of fields, and the words that fields take."""
    models: Iterable[Any] = (StudySpec, Budget, Limits, Objective, Confirm)
    names = {name for model in models for name in model.model_fields} | {*ours.data_fields, *ours.model_fields, *ours.parameters}
    parameter = {"type", "low", "high", "log", "step", "choices", "when", "float", "int", "categorical"}
    words = {word for listed in ours.words.values() for word in listed.values()}
    own = {*ours.weights, *ours.metrics, *ours.models}
    known = names | parameter | words | own | options() | {"DEFAULT", "minimize", "maximize", "server", "workers"}
    return frozenset(known | set(SAMPLERS.values()) | set(PRUNERS.values()))


@cache
def options() -> frozenset[str]:
    """The options of all samplers and pruners."""
    unions = [get_args(get_args(union)[0]) for union in (Sampler, Pruner)]
    return frozenset(name for union in unions for member in union for name in member.model_fields)
