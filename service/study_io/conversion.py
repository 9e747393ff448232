"""Write the search that another tool defines as a study file, and name each entry that has no equivalent.

A converted file has no faults but those of its marked places, which the user completes: other entries with faults are left out and named.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces import Fault, Path, Scalar
from search_spaces.documents import from_yaml, impurities
from service.domain.errors import InvalidInput
from service.domain.parsing import examine
from service.domain.spec import MAX_TRIALS
from service.domain.synonyms.names import DATA_PARTS, DIRECTIONS, MODEL_PARTS, key, names_of, spelled
from service.domain.synonyms.sections import hyperparameter, model, named, number, whole
from service.domain.text import clean
from service.study_io.other_tools import VALIDATION, ForeignSearch, shown
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of

MARK = "COMPLETE"
MOST_NOTES = 200  # in the comment and on standard error


@dataclass(frozen=True)
class Converted:
    """A study file, the places in it to complete, and the entries of the source that changed or have no equivalent."""

    text: str
    places: tuple[Path, ...]
    lost: tuple[str, ...]
    changed: tuple[str, ...]


def convert(found: ForeignSearch, task: str, name: str) -> Converted:
    """The study file of the task. `name` is used where the source gives none. Raises InvalidInput."""
    if isinstance(spec_of(task), ExternalRunner):
        message = "parameters of a script keep their names, so there is nothing to convert; copy the search space by hand (docs/scripts.md)"
        raise InvalidInput([Fault(("task",), "no_conversion", message)])
    return _Conversion(found, task).run(name)


class _Conversion:
    def __init__(self, found: ForeignSearch, task: str) -> None:
        self.found = found
        self.task = spec_of(task)
        self.ours = names_of(task)
        self.places: dict[Path, str] = {}  # place to complete -> comment
        self.origins: dict[str, str] = {}  # hyperparameter -> its place in the source
        self.document: dict[str, Any] = {"name": None, "task": task}

    def run(self, name: str) -> Converted:
        path, model_name = (
            _flow(from_yaml(self.task.lines[section])[section][name]) for section, name in (("data", "path"), ("model", "name"))
        )
        self._mark(("data", "path"), f"such as `path: {path}`")
        self._mark(("model", "name"), f"such as `name: {model_name}`; `thaw study schema --task {self.task.name}` lists the models")
        self.document |= {"search_space": {}, "fixed": {}}
        for theirs, value in self.found.params.items():
            self._add_parameter(theirs, value)
        self._add_objective()
        self.document |= {section: value for section in ("sampler", "pruner", "limits") if (value := getattr(self.found, section))}
        self.document["name"] = str(self.found.name) if self.found.name not in (None, "") else name
        self._settle_with_budget()
        if not self.document["fixed"]:
            del self.document["fixed"]
        lost, changed = (tuple(dict.fromkeys(notes)) for notes in (self.found.lost, self.found.changed))
        return Converted("\n".join(self._lines(lost, changed)) + "\n", tuple(self.places), lost, changed)

    def _mark(self, place: Path, comment: str) -> None:
        """Leave the field of a section open, for the user to complete."""
        section, *below = place
        if below:
            self.document.setdefault(str(section), {})[str(below[0])] = None
        self.places[place] = f"{MARK}: {comment}"

    # Parameters.

    def _add_parameter(self, theirs: str, value: Mapping[str, Any]) -> None:
        place, stem = f"{self.found.section}{theirs}", re.sub(r"\.(name|type)\Z", "", theirs)  # such as `optimizer: {name: adam, lr: 0.1}`
        leaf = stem.rpartition(".")[2]
        name = next((new for one in (theirs, stem, leaf) if (new := self._hyperparameter(one)) in self.ours.parameters), None)
        if name is None:
            self._lose_unknown(place, leaf, value)
        elif name in self.origins:
            self.found.lose(place, f"this is {name}, which {self.origins[name]} gives already; leave one of them out")
        elif any(impurities(list(value.values()))):
            self.found.lose(place, "it has a number or text that is not accepted (not finite, above 2^53, or with control characters)")
        else:
            self.origins[name] = place
            if name != theirs:
                self.found.change(place, f"it is called {name} here")
            self._add_definition(name, place, value)

    def _hyperparameter(self, name: str) -> str:
        return "schedule" if key(name) == "scheduler" else hyperparameter(self.ours, name)

    def _lose_unknown(self, place: str, leaf: str, value: Mapping[str, Any]) -> None:
        single = value.get("value", *value["choices"] if _is_list(value.get("choices"), 1) else ())
        if key(leaf) in MODEL_PARTS:
            known = model(self.ours, {"name": single})["name"]
            if isinstance(known, str) and known in self.ours.models:
                self.document["model"] = {"name": known}
                self.places.pop(("model", "name"), None)
                self.found.change(place, f"it is model.name here, {known}")
            else:
                self.found.lose(place, "a study has one model of the catalogue; write it under model, and a study for each other model")
        elif key(leaf) in DATA_PARTS:
            self.found.lose(place, "the data is no hyperparameter; write it under data")
        else:
            reason = self.ours.dropped.get(key(leaf), f"the task {self.task.name} has no such hyperparameter")
            self.found.lose(place, f"{reason}; `thaw study schema --task {self.task.name}` lists those that it has")

    def _add_definition(self, name: str, place: str, value: Mapping[str, Any]) -> None:
        if "value" in value:
            if isinstance(value["value"], list | dict):
                self.found.lose(place, "a hyperparameter is a number or a text, not a list or mapping; leave it out")
            else:
                self.document["fixed"][name] = self._spelled(name, place, value["value"])
        elif "choices" in value:
            if choices := self._choices(name, place, value["choices"]):
                self.document["search_space"][name] = {"type": "categorical", "choices": choices}
        else:
            self.document["search_space"][name] = self._range(name, place, value)

    def _spelled(self, name: str, place: str, value: Any) -> Any:
        """The value as the task spells it, and with the type of the hyperparameter."""
        if (numeric := self._numeric(name)) is not None:
            value = number(value)
            return whole(value) if numeric is int else value
        new = named(self.ours, name, value)[1]
        if new != value:
            self.found.change(place, f"{shown(value)} is written {shown(new)} here")
        return new

    def _choices(self, name: str, place: str, choices: Any) -> list[Scalar]:
        if not _is_list(choices):
            self.found.lose(place, "choices are a list of values; write at least one")
            return []
        found = dict[tuple[type, Any], Any]()
        for choice in choices:
            if isinstance(choice, str | bool | int | float | None):
                new = self._spelled(name, place, choice)
                if (type(new), new) in found:
                    self.found.change(place, f"the choice {shown(choice)} is there twice; one of them is left out")
                found[type(new), new] = new
            else:
                self.found.lose(f"{place} choice {shown(choice)}", "a choice is a number or a text; leave it out")
        return list(found.values())

    def _range(self, name: str, place: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """The range in the type of the hyperparameter."""
        low, high, step = value["low"], value["high"], value.get("step")
        numeric = self._numeric(name)
        if numeric is int and not all(isinstance(whole(one), int) for one in (low, high, 1 if step is None else step)):
            self.found.change(place, f"{name} is a whole number here")
            step = None
        if numeric is int:
            parts = {"type": "int", "low": math.ceil(low), "high": math.floor(high), "step": whole(step)}
            return _without_none({**parts, "step": None if parts["step"] == 1 else parts["step"], "log": value.get("log")})
        if numeric is float and value["type"] == "int" and not value.get("log"):
            self.found.change(place, f"{name} takes whole numbers only, as there; without step it takes any number")
            step = step or 1
        return _without_none({**value, "type": "float" if numeric is float else value["type"], "step": step})

    def _numeric(self, name: str) -> type[int] | type[float] | None:
        """The type of a hyperparameter whose values are numbers."""
        annotation = self.ours.parameters[name].annotation
        return int if annotation is int else float if annotation is float else None

    # The other sections.

    def _add_objective(self) -> None:
        theirs, metrics = self.found.metric, self.ours.metrics
        stem = VALIDATION.sub("", theirs, count=1) if isinstance(theirs, str) else ""
        names = [spelled(self.ours.metric_names, each) for each in (theirs, stem) if isinstance(each, str)]
        metric = next((each for each in names if each in metrics), None)
        direction = spelled(DIRECTIONS, self.found.direction) if isinstance(self.found.direction, str) else None
        if metric is not None:
            better = metrics[metric].direction
            if metric != theirs:
                self.found.change("objective", f"the metric {shown(theirs)} is called {metric} here")
            if direction not in (None, better):
                self.found.change("objective", f"the better direction of {metric} is {better}, not {direction}")
            self.document["objective"] = {"metric": metric, "direction": better}
            return
        if theirs is not None:
            self.found.lose("objective", f"the task {self.task.name} has no metric {shown(theirs)}; choose one of its metrics")
        known = direction if direction in ("minimize", "maximize") else None
        fitting = [name for name, one in metrics.items() if known in (None, one.direction)]
        self._mark(("objective", "metric"), f"one of {', '.join(fitting or metrics)}")
        if known is None:
            self._mark(("objective", "direction"), "minimize or maximize")
        else:
            self.document["objective"]["direction"] = known

    def _settle_with_budget(self) -> None:
        """Add the budget, and remove what is not accepted. A grid without a number of trials gets that of its combinations."""
        self.document["budget"] = dict(self.found.budget)
        self._complete_budget()
        self._settle()
        if not self._is_grid or self.document["budget"].get("trials") is not None:
            return
        self.places.pop(("budget",), None)
        self.document["budget"]["trials"] = MAX_TRIALS  # the grid is checked against it
        spec = self._settle()
        size = spec.search_space.size if spec is not None and self._is_grid else None
        self.document["budget"]["trials"] = size
        if size is not None:
            self.found.change("budget", f"the grid has {size} combinations, which are its trials")
        self._complete_budget()

    @property
    def _is_grid(self) -> bool:
        return bool(self.document.get("sampler", {}).get("name") == "grid")

    def _complete_budget(self) -> None:
        budget = self.document["budget"]
        if budget.get("trials") is None and budget.get("hours") is None:
            self.document["budget"] = {"trials": None, **{part: value for part, value in budget.items() if part == "parallel"}}
            self.places[("budget",)] = f"{MARK}: the number of trials, such as `budget: {{trials: 40}}`"

    def _settle(self) -> Any:
        """Remove entries until only the marked places have faults. Returns the spec with stand-ins for them."""
        while True:
            if not self.document["search_space"]:
                self._leave_grid("the search space is to be completed")
                line = "lr: {type: float, low: 1e-5, high: 0.1, log: true}"
                self.places[("search_space",)] = f"{MARK}: at least one parameter, such as `{line}`"
            examined = examine(self.document)
            faults = [fault for fault in examined.faults if fault.path not in self.places]
            if not faults:
                return examined.spec
            before = json.dumps(self.document)
            self._remove(faults)
            if json.dumps(self.document) == before:
                raise InvalidInput(faults)  # of a part that is not the source's

    def _remove(self, faults: Iterable[Fault]) -> None:
        """Remove the entries that have the faults, and name them."""
        by_entry = defaultdict[Path, list[Fault]](list)
        for fault in faults:
            by_entry[fault.path[:2]].append(fault)
        for (section, *below), found in by_entry.items():
            entries, message, name = self.document.get(str(section)), found[0].message, str(below[0]) if below else ""
            if found[0].code in ("endless_grid", "grid_above_budget"):
                self._leave_grid(message)
            elif section == "name":
                self.found.change("name", f"{shown(entries)} is not accepted as a name: {message}")
                self.document["name"] = "converted"
            elif section == "search_space" and isinstance(entries, dict) and name in entries:
                self._remove_parameter(entries, name, found)
            elif section in ("fixed", "budget", "limits", "sampler", "pruner") and isinstance(entries, dict):
                whole_section = name not in entries or (name == "name" and section != "fixed")
                value = self.document.pop(str(section)) if whole_section else entries.pop(name)
                place = self.origins.get(name, name) if section == "fixed" else str(section) if whole_section else f"{section}.{name}"
                self.found.lose(place, f"{shown(_flow(value))} is not accepted: {message}")
        self.document.setdefault("fixed", {})
        self.document.setdefault("budget", {})
        self._complete_budget()

    def _leave_grid(self, reason: str) -> None:
        if self._is_grid:
            self.document["sampler"] = {"name": "random"}
            self.found.change("sampler", f"random instead of grid: {reason}")

    def _remove_parameter(self, space: dict[str, Any], name: str, faults: Iterable[Fault]) -> None:
        """Remove those choices of the parameter that have faults, or else the parameter."""
        by_choice = {fault.path[3]: fault.message for fault in faults if fault.path[2:3] == ("choices",) and len(fault.path) > 3}
        choices = [*enumerate(space[name].get("choices", ()))]
        if not any(index not in by_choice for index, _ in choices) or not by_choice:
            message = next(fault.message for fault in faults)
            self.found.lose(self.origins[name], f"{shown(_flow(space.pop(name)))} is not accepted: {message}")
            return
        for index, choice in choices:
            if index in by_choice:
                self.found.lose(f"{self.origins[name]} choice {shown(choice)}", by_choice[index])
        space[name] = {**space[name], "choices": [choice for index, choice in choices if index not in by_choice]}

    # The file.

    def _lines(self, lost: Collection[str], changed: Collection[str]) -> Iterator[str]:
        yield f"# Converted from {self.found.tool} by `thaw study convert`."
        if self.places:
            yield f"# To complete, at the places marked {MARK}: {', '.join('.'.join(map(str, place)) for place in self.places)}"
        for title, notes in (("Without equivalent", lost), ("Changed", changed)):
            if notes:
                yield f"# {title}:"
            yield from (f"#   {line}" for line in limited(notes))
        for section, value in self.document.items():
            below = {str(place[1]): comment for place, comment in self.places.items() if place[0] == section and len(place) > 1}
            comment = f"  # {self.places[(section,)]}" if (section,) in self.places else ""
            if isinstance(value, dict) and (below or (value and section in ("search_space", "fixed"))):
                yield f"{section}:{comment}"
                for name, each in value.items():
                    yield f"  {_flow(name)}: {_flow(each)}" + (f"  # {below[name]}" if name in below else "")
            else:
                yield f"{section}: {_flow(value)}{comment}"


def limited(notes: Collection[str]) -> Iterator[str]:
    """The first notes, each in one line, and the number of the others."""
    yield from (" ".join(clean(note).split()) for note in list(notes)[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        yield f"and {len(notes) - MOST_NOTES} more"


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, list) and (len(value) == length if length else len(value) > 0)


PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"})


def _flow(value: Any) -> str:
    """The value in YAML flow style, which parsers of YAML 1.1 and 1.2 read alike."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_flow(str(name))}: {_flow(each)}" for name, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case float():
            digits = repr(value)
            return digits.replace("e", ".0e") if "e" in digits and "." not in digits else digits
        case str() if PLAIN.match(value) and value.lower() not in WORDS:
            return value
        case str():
            return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in json.dumps(value, ensure_ascii=False))
        case _:
            return json.dumps(value)
