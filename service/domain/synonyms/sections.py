"""The sections of a study from any of the forms that other tools have. What is not understood stays as it is."""

import re
from collections.abc import Mapping
from typing import Any

from service.domain.synonyms.lines import options
from service.domain.synonyms.parameters import MOST_ENTRIES, number, whole
from service.domain.synonyms.tables import (
    BUDGET,
    DIRECTIONS,
    MODEL,
    OBJECTIVE,
    PRUNER,
    SECONDS,
    Names,
    key,
    spelled,
)  # fmt: skip


def listed(value: Any) -> dict[str, Any]:
    """Katib's list of parameters, and SageMaker's lists by type, as a mapping by name."""
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
            continue  # Katib's goal: the value at which to stop, which Thawline has not
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
    """A time in seconds, or with its unit, in hours."""
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
            taken = float(f"{taken / 100:.6g}")  # per cent
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
    """A sampler or pruner, by its name alone or with its options."""
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
