"""Translates the sections of another tool's document."""

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.synonyms.names import (
    BUDGET,
    CALLS,
    DIRECTIONS,
    EXCLUSIVE,
    EXPONENTS,
    KINDS,
    LONGEST_LINE,
    MODEL,
    NUMBER,
    OBJECTIVE,
    PARAMETER,
    PRUNER,
    SECONDS,
    Names,
    key,
    options,
    spelled,
)

MOST_ENTRIES = 200  # a mapping with more entries is not translated: no study has so many fields
OUR_TYPES = ("float", "int", "categorical")
OUR_FIELDS = frozenset({"type", "low", "high", "log", "step", "choices", "when"})


def named(ours: Names, name: str, value: Any) -> tuple[str, Any]:
    """The trainer's name of a hyperparameter, and its spelling of the value."""
    new = hyperparameter(ours, name)
    if new == "precision" and isinstance(value, bool):  # such as `bf16: true`
        return new, "bfloat16" if value else "float32"
    if isinstance(value, str) and new in ours.words:
        return new, spelled(ours.words[new], value)
    return new, value


def hyperparameter(ours: Names, name: str) -> str:
    """The trainer's name of a hyperparameter; the name itself if it is unknown."""
    return name if name in ours.parameters else spelled(ours.hyperparameter_names, name)


def parameter(ours: Names, name: str, value: Any, space: Mapping[str, Any]) -> tuple[str, Any]:
    """The trainer's name of a parameter, and its definition in Thawline's fields, or its value if it has only one."""
    new = hyperparameter(ours, name)
    if isinstance(value, str) and (called := _called(value)) is not None:
        value = called
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        return new, named(ours, new, number(value))[1] if new in ours.parameters else value
    if len(value) > MOST_ENTRIES:
        return new, value
    return new, _varied(ours, new, value, space)


def number(value: Any) -> Any:
    """Convert a text that contains a number. Other values stay unchanged."""
    if not isinstance(value, str) or len(value) > 40 or not NUMBER.match(value.strip()):
        return value
    found = float(value)
    if not math.isfinite(found):
        return value
    return whole(found) if re.fullmatch(r"\s*[-+]?[0-9]+\s*", value) else found


def whole(value: Any) -> Any:
    """Convert a float without a fraction to an int. Other values stay unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def likely_type(ours: Names, name: str, parts: Mapping[str, Any]) -> str | None:
    """The probable type of a parameter without one; None if it has neither choices nor both bounds."""
    if "choices" in parts:
        return "categorical"
    low, high = number(parts.get("low")), number(parts.get("high"))
    if not _are_numbers(low, high):
        return None
    return _numeric(ours, name) or ("int" if isinstance(low, int) and isinstance(high, int) else "float")


def call_of(text: str) -> tuple[str, list[Any], dict[str, Any]] | None:
    """Name, arguments and keyword arguments of a call with literal arguments, such as `tune.loguniform(1e-4, 1e-1)`; None for other texts.

    Nothing is evaluated.
    """
    if len(text) > LONGEST_LINE or "(" not in text:
        return None
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name | ast.Attribute):
            return None
        written = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
        values = [ast.literal_eval(one) for one in call.args]
        return written, values, {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None


def _called(text: str) -> dict[str, Any] | None:
    """A parameter in the form of an Optuna or Ray Tune call; None for other texts."""
    call = call_of(text)
    if call is None or (kind := key(call[0].removeprefix("suggest_"))) not in CALLS:
        return None
    written, values, options = call
    if written.startswith("suggest_"):
        values = values[1:]  # the first one is the parameter's name
    found: dict[str, Any] = dict(zip(CALLS[kind], values, strict=False)) | options
    found.pop("name", None)
    return {"choices": list(found.get("choices", ()))} if "choices" in CALLS[kind] else {"type": kind, **found}


@dataclass(frozen=True)
class _Parts:
    """A parameter's entries by Thawline's fields, and the unknown entries."""

    known: dict[str, Any]
    unknown: dict[str, Any]

    @property
    def written(self) -> str:
        """The key of the type in the document."""
        return key(self.known["type"]) if isinstance(self.known.get("type"), str) else ""

    @property
    def ours(self) -> bool:
        return self.known.get("type") in OUR_TYPES


def _parts(value: Mapping[str, Any]) -> _Parts:
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, item in value.items():
        place = PARAMETER.get(key(name))
        if place == "inside" and isinstance(item, dict):
            inner = {spelled(PARAMETER, one): each for one, each in item.items()}
            known["log"] = KINDS.get(key(inner.pop("type", "")), ("", False))[1]  # Katib puts the distribution inside feasibleSpace
            known |= inner
        elif place == "bounds" and isinstance(item, list) and len(item) == 2:
            known |= {"low": item[0], "high": item[1]}
        elif place is None or place in ("inside", "bounds"):
            unknown[name] = item
        elif place != "nothing":
            known[place] = item
    return _Parts(known, unknown)


def _varied(ours: Names, name: str, value: Mapping[str, Any], space: Mapping[str, Any]) -> Any:
    """The parameter in Thawline's fields. Keeps unknown entries, so that the validator reports them."""
    parts = _parts(value)
    known = parts.known
    if "value" in known and known.keys() <= {"value", "type"}:
        return named(ours, name, number(known["value"]) if _numeric(ours, name) else known["value"])[1]
    kind, log = _kind(ours, name, parts, value)
    if not kind:
        return {**value}
    found: dict[str, Any] = {"type": kind}
    if kind != "categorical":
        found |= {part: item for part, item in _range(kind, log, parts).items() if item is not None}
    if known.get("log") is False and "log" in value:
        found["log"] = False
    if "choices" in known and (kind == "categorical" or "low" in known):
        found["choices"] = _choices(ours, name, known["choices"])
    if "when" in known:
        found["when"] = _when(ours, known["when"], space)
    if parts.ours:  # null and other invalid values stay, so that the validator reports them
        found |= {part: value[part] for part in ("low", "high", "step", "choices", "log") if part in value and part not in found}
    return found | parts.unknown


def _kind(ours: Names, name: str, parts: _Parts, value: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Thawline's type, and whether the scale is logarithmic."""
    if parts.ours and value.keys() <= OUR_FIELDS:
        return parts.known["type"], parts.known.get("log", False)
    kind, log = KINDS.get(parts.written) or (likely_type(ours, name, parts.known), False)
    if kind in ("float", "int"):
        kind = "categorical" if "choices" in parts.known and "low" not in parts.known else _numeric(ours, name) or kind
    return kind, log or _means_log(parts.known.get("log", False))


def _range(kind: str, log: bool, parts: _Parts) -> dict[str, Any]:
    low, high, step = (number(parts.known.get(part)) for part in ("low", "high", "step"))
    if parts.written in EXPONENTS and _are_numbers(low, high) and low <= 0:
        low, high = (float(f"{math.exp(max(-700.0, min(700.0, bound))):.4g}") for bound in (low, high))
    if parts.written in EXCLUSIVE and isinstance(high, int):
        high -= 1
    if kind == "int":
        low, high, step = whole(low), whole(high), whole(step)
    if log and not parts.ours:
        step = None  # a log range takes none
    return {"low": low, "high": high, "log": log or None, "step": step}


def _choices(ours: Names, name: str, choices: Any) -> Any:
    if not isinstance(choices, list):
        return choices
    return [named(ours, name, number(choice) if _numeric(ours, name) else choice)[1] for choice in choices]


def _when(ours: Names, when: Any, space: Mapping[str, Any]) -> Any:
    """A condition with its values in lists, in the spelling of the other parameter's choices."""
    if not isinstance(when, dict) or len(when) > MOST_ENTRIES:
        return when
    found: dict[str, Any] = {}
    for name, values in when.items():
        new = name if name in space and hyperparameter(ours, name) not in space else hyperparameter(ours, name)
        if isinstance(values, list) and len(values) > MOST_ENTRIES:
            return when
        found[new] = [named(ours, new, value)[1] for value in (values if isinstance(values, list) else [values])]
    return found


def _numeric(ours: Names, name: str) -> str | None:
    """The hyperparameter's numeric type, `int` or `float`; None if its values are texts or it is unknown."""
    known = ours.parameters.get(name)
    if known is None or name in ours.words:
        return None
    return "int" if known.annotation is int else "float"


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _means_log(value: Any) -> bool:
    return value is True or (isinstance(value, str) and key(value) in ("log", "logarithmic", "loguniform", "true", "yes", "on"))


def listed(value: Any) -> dict[str, Any]:
    """Convert Katib's list of parameters, or SageMaker's lists by type, to a mapping by name."""
    if isinstance(value, dict):
        ranges = {"continuousparameterranges": "float", "integerparameterranges": "int", "categoricalparameterranges": "categorical"}
        if not value or not all(key(kind) in ranges and isinstance(item, list) for kind, item in value.items()):
            return value
        return {name: {"type": ranges[key(kind)], **one} for kind, item in value.items() for name, one in listed(item).items()}
    found = {}
    for one in value[:MOST_ENTRIES]:
        if isinstance(one, dict) and (name := next((entry for entry in one if key(entry) == "name"), None)) is not None:
            found[str(one[name])] = {entry: item for entry, item in one.items() if entry != name}
    return found


def objective(ours: Names, value: Any) -> Any:
    if isinstance(value, str) and key(value) in ours.metric_names:
        value = {"metric": value}
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        place = spelled(OBJECTIVE, name)
        if isinstance(item, list) and len(item) == 1:
            item = item[0]
        if place == "direction" and isinstance(item, int | float) and not isinstance(item, bool) and name != "direction":
            continue  # Katib's goal is a value at which to stop, which Thawline does not support
        if place == "metric" and isinstance(item, str):
            item = spelled(ours.metric_names, item)
        if place == "direction" and isinstance(item, str):
            item = spelled(DIRECTIONS, item)
        if key(name) not in ours.dropped:
            found.setdefault(place, item)
    return found


def budget(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"trials": value}
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        place = spelled(BUDGET, name)
        taken = number(item)
        if key(name) in SECONDS:
            taken = _hours(item)
        found.setdefault(place, taken if place in ("trials", "hours", "parallel") else item)
    return found


def _hours(value: Any) -> Any:
    """Convert a time to hours. It is in seconds, or a text with a unit such as `30m`."""
    unit = 3600.0
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9.]{1,12})\s*(s|sec|m|min|h|d)\s*", value)):
        value, unit = number(found[1]), {"s": 3600.0, "sec": 3600.0, "m": 60.0, "min": 60.0, "h": 1.0, "d": 1 / 24}[found[2]]
    value = number(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    return whole(float(f"{value / unit:.6g}"))


def data(ours: Names, value: Any) -> Any:
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        known = name in ours.data_fields
        place = name if known else spelled(ours.data_names, name)
        taken = number(item)
        if place in ("validation", "test") and isinstance(taken, int | float) and not isinstance(taken, bool) and 1 < taken < 100:
            taken = float(f"{taken / 100:.6g}")  # a percentage
        if key(name) not in ours.dropped or known:
            found.setdefault(place, taken if place in ("validation", "test") else item)
    return found


def model(ours: Names, value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        place = name if name in ours.model_fields else spelled(MODEL, name)
        if place == "name" and isinstance(item, str) and item not in ours.models:
            item = {key(one): one for one in ours.models}.get(key(item.rpartition("/")[2]), item)
        if place == "weights" and item is True:
            item = "DEFAULT"
        if place == "weights" and item is False:
            item = "random"
        found.setdefault(place, item)
    return found


def algorithm(ours: Names, value: Any, names: Mapping[str, str], fields: Mapping[str, str]) -> Any:
    """Translate a sampler or pruner: its name, or a mapping with options."""
    if isinstance(value, str):
        return {"name": names[key(value)]} if key(value) in names else value
    if value is None and "none" in names:
        return {"name": "none"}
    if not isinstance(value, dict) or len(value) > MOST_ENTRIES:
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        place = name if name in options() else spelled(fields, name)
        if key(name) not in ours.dropped:
            found.setdefault(place, _option(ours, place, item, names, fields))
    if "name" not in found and fields is PRUNER:
        likely = "asha" if {"min_steps", "reduction_factor"} & found.keys() else "patient" if "patience" in found else None
        return {"name": likely, **found} if likely else found
    return found


def _option(ours: Names, place: str, item: Any, names: Mapping[str, str], fields: Mapping[str, str]) -> Any:
    if place == "name" and isinstance(item, str):
        return spelled(names, item)
    return algorithm(ours, item, names, fields) if place == "wrapped" else item
