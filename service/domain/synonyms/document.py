"""A whole study document in Thawline's names, with a fault for each entry that had other ones."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from search_spaces import Fault, Path
from service.domain.spec import StudySpec
from service.domain.synonyms.names import (  # fmt: skip
    BUDGET,
    DATA_PARTS,
    FIXED,
    MODEL_PARTS,
    NAME,
    NAMED,
    OBJECTIVE_PARTS,
    PARAMETER,
    PATIENCE,
    PRUNER,
    PRUNER_SECTION,
    PRUNERS,
    SAMPLER,
    SAMPLERS,
    SPACE,
    WORDS,
    WRAPPERS,
    key,
    line,
    names_of,
)
from service.domain.synonyms.sections import (
    MOST_ENTRIES,
    OUR_TYPES,
    algorithm,
    budget,
    data,
    hyperparameter,
    listed,
    model,
    named,
    number,
    objective,
    parameter,
)
from trainer.configuration import FIRST_TASK
from trainer.tasks.registry import specs

MOST_TEXT = 16_000  # characters of all lines of an answer together


@dataclass(frozen=True)
class Translation:
    """The document in Thawline's names, and a fault for each entry that had other ones."""

    document: dict[str, Any]
    faults: list[Fault]


def translate(document: Mapping[str, Any]) -> Translation:
    """Replace the names and spellings that are recognised; what is not is left as it is, for the validator."""
    if len(document) > MOST_ENTRIES:
        return Translation(dict(document), [])
    return _Translator(document).run()


@dataclass(frozen=True)
class _Move:
    """An entry of the document that is to be written otherwise: the lines hold these parts of the translated document."""

    path: Path
    code: str
    reason: str
    parts: tuple[Path, ...]


class _Translator:
    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        task = source.get("task", FIRST_TASK)
        self.ours = names_of(task if isinstance(task, str) and task in specs() else FIRST_TASK)
        self.result: dict[str, Any] = {}
        self.moves: list[_Move] = []
        self.drops: list[Fault] = []

    def run(self) -> Translation:
        for name, value in self.source.items():  # those with their right name first: nothing else takes their place
            if name in StudySpec.model_fields:
                self._section(name, value, (name,))
        for name, value in self.source.items():
            if name not in StudySpec.model_fields:
                self._stranger(name, value, (name,))
        self._complete_objective()
        return Translation(self.result, [*self._faults(), *self.drops])

    def _faults(self) -> Iterator[Fault]:
        left = MOST_TEXT
        for move in self.moves:
            lines = [line(self.ours, self.result, part) for part in move.parts]
            text = "; write " + " and ".join(lines) if lines else ""
            if len(text) > left:
                text = "; write it as the faults above say (the line is too long for this answer)"
            left -= len(text)
            yield Fault(move.path, move.code, move.reason + text)

    # Sections that have their right names.

    def _section(self, name: str, value: Any, path: Path) -> None:
        match name:
            case "search_space" if isinstance(value, dict | list):
                parts = self._space(listed(value), path, told_together=isinstance(value, list))
                if isinstance(value, list):
                    self._told(path, "dict_type", "a search space is a mapping of parameters", *parts)
            case "fixed" | "baseline" if isinstance(value, dict):
                self._values(name, value, path)
            case "objective":
                self._rewritten(name, value, objective(self.ours, value), path)
            case "budget":
                self._rewritten(name, value, budget(value), path)
            case "data":
                self._rewritten(name, value, data(self.ours, value), path)
            case "model":
                self._rewritten(name, value, model(self.ours, value), path)
            case "sampler":
                self._rewritten(name, value, algorithm(self.ours, value, SAMPLERS, NAMED), path)
            case "pruner":
                self._rewritten(name, value, algorithm(self.ours, value, PRUNERS, PRUNER), path)
            case _:
                self.result[name] = value

    def _rewritten(self, name: str, old: Any, new: Any, path: Path) -> None:
        """Each entry of the section that changed gets the line of the whole section."""
        self.result[name] = new
        if _same(new, old):
            return
        if not isinstance(old, dict):
            self._told(path, "model_type", f"{name} is a mapping of fields", (name,))
            return
        for entry, item in old.items():
            if entry not in new:
                self._told((*path, entry), "extra_forbidden", f"{name} has no field of this name", (name,))
            elif not _same(new[entry], item):
                self._told((*path, entry), "literal_error", "Thawline writes this value in another way", (name,))
        if new.keys() > old.keys():
            lacking = next(iter(new.keys() - old.keys()))
            self._told((*path, lacking), "missing", "this field is required", (name,))

    def _space(self, space: Mapping[str, Any], path: Path, told_together: bool) -> tuple[Path, ...]:
        """The parts of the translated document that the space became. Each parameter is told, unless all are told together."""
        target = self.result.setdefault("search_space", {})
        if len(space) > MOST_ENTRIES or not isinstance(target, dict):
            self.result["search_space"] = dict(space)
            return ()
        parts: dict[Path, None] = {}
        for name, value in space.items():
            new, written = parameter(self.ours, name, value, space)
            if key(name) in self.ours.dropped:
                self._dropped((*path, name), "unknown_parameter", key(name))
                continue
            if new != name and new in space:
                self.drops.append(Fault((*path, name), "unknown_parameter", f"this is {new}, which is there already; drop it"))
                continue
            part = self._placed(new, value, written)
            parts[part if part[0] == "fixed" else ("search_space",)] = None
            if not told_together and (new != name or not _same(written, value)):
                for inside, code, reason in _why(name, new, value, written):
                    self._told((*path, name, *inside), code, reason, part)
        return tuple(parts)

    def _placed(self, name: str, value: Any, written: Any) -> Path:
        """Put the parameter into the search space, or into fixed when it has one value. Where that is."""
        one_value = not isinstance(written, dict) and (isinstance(value, dict) or name in self.ours.parameters)
        section = "fixed" if one_value and isinstance(self.result.get("fixed", {}), dict) else "search_space"
        self.result.setdefault(section, {})[name] = written
        return section, name

    def _values(self, section: str, values: Mapping[str, Any], path: Path, moved: bool = False) -> None:
        """Values of hyperparameters by their names: `fixed` and `baseline`."""
        there = self.result.setdefault(section, {})
        if not isinstance(there, dict) or len(values) > MOST_ENTRIES:
            self.result[section] = dict(values)
            return
        for name, value in values.items():
            new, word = named(self.ours, name, number(value) if moved else value)
            if key(name) in self.ours.dropped:
                self._dropped((*path, name), "unknown_parameter", key(name))
            elif new != name and new in values:
                self.drops.append(Fault((*path, name), "unknown_parameter", f"this is {new}, which is there already; drop it"))
            else:
                there[new] = word
                if new != name and not moved:
                    self._told((*path, name), "unknown_parameter", f"the trainer calls this {new}", (section, new))
                elif word != value and not moved:
                    self._told((*path, name), "literal_error", "the trainer writes this value in another way", (section, new))

    # Entries that a study does not have.

    def _stranger(self, name: str, value: Any, path: Path) -> None:
        readings = (self._as_wrapper, self._as_misspelled, self._as_space, self._as_algorithm, self._as_part, self._as_hyperparameter)
        if any(reading(name, value, path) for reading in readings):
            return
        if key(name) in self.ours.dropped:
            self._dropped(path, "extra_forbidden", key(name))
        else:
            self.result[name] = value

    def _as_wrapper(self, name: str, value: Any, path: Path) -> bool:
        """A section around the whole study, such as Katib's `spec`."""
        if key(name) not in WRAPPERS or not isinstance(value, dict) or len(value) > MOST_ENTRIES or len(path) > 2:
            return False
        for inner in sorted(value, key=lambda one: one not in StudySpec.model_fields):
            if inner in StudySpec.model_fields and inner not in self.result:
                told = len(self.moves)
                self._section(inner, value[inner], (*path, inner))
                del self.moves[told:]  # the line of the whole section says it all
                self._told((*path, inner), "extra_forbidden", "this belongs at the top level", (inner,))
            else:
                self._stranger(inner, value[inner], (*path, inner))
        self.drops.append(Fault(path, "extra_forbidden", "a study has no such section; its fields belong at the top level; drop it"))
        return True

    def _as_misspelled(self, name: str, value: Any, path: Path) -> bool:
        """One of a study's fields in another spelling, or its name."""
        section = "name" if key(name) in NAME else _section_like(name)
        if section is None or section in self.result:
            return False
        if section == "name":
            self.result[section] = value.get("name") if isinstance(value, dict) else value
        else:
            told = len(self.moves)
            self._section(section, value, path)
            del self.moves[told:]
        self._told(path, "extra_forbidden", f"it is called {section} here", (section,))
        return True

    def _as_space(self, name: str, value: Any, path: Path) -> bool:
        if key(name) in SPACE and isinstance(value, dict | list):
            parts = self._space(listed(value), path, told_together=True)
            self._told(path, "extra_forbidden", "it is called search_space here", *parts)
        elif key(name) in FIXED and isinstance(value, dict):
            self._values("fixed", value, path, moved=True)
            self._told(path, "extra_forbidden", "it is called fixed here", ("fixed",))
        else:
            return False
        return True

    def _as_algorithm(self, name: str, value: Any, path: Path) -> bool:
        """The sampler, the pruner, or options of theirs."""
        if key(name) in SAMPLER and not _same(sampler := algorithm(self.ours, value, SAMPLERS, NAMED), value):
            self._joined("sampler", sampler, path)
        elif key(name) in ("randomstate", "randomseed"):
            self._joined("sampler", {"name": "tpe", "seed": value}, path)
        elif key(name) in PATIENCE:
            self._joined("pruner", {"name": "patient", "patience": value}, path)
        elif key(name) in PRUNER_SECTION and isinstance(value, str) and key(value) in WORDS["schedule"]:
            return False
        elif key(name) in PRUNER_SECTION and not _same(pruner := algorithm(self.ours, value, PRUNERS, PRUNER), value):
            self._joined("pruner", pruner, path)
        else:
            return False
        return True

    def _as_part(self, name: str, value: Any, path: Path) -> bool:
        """A field of a section, at the top level."""
        if key(name) in OBJECTIVE_PARTS:
            self._joined("objective", objective(self.ours, value if isinstance(value, dict) else {name: value}), path)
        elif key(name) in BUDGET:
            self._joined("budget", budget({name: value}), path)
        elif key(name) == "maxfailedtrialcount":
            self._joined("limits", {"failures": value}, path)
        elif key(name) in DATA_PARTS:
            self._joined("data", data(self.ours, {name: value}), path)
        elif key(name) in MODEL_PARTS:
            self._joined("model", model(self.ours, {name: value}), path)
        else:
            return False
        return True

    def _as_hyperparameter(self, name: str, value: Any, path: Path) -> bool:
        """A hyperparameter at the top level: fixed, or varied when it is written as a range or list."""
        new = "schedule" if key(name) == "scheduler" else hyperparameter(self.ours, name)
        if new != "schedule" and key(name) not in self.ours.hyperparameter_names:
            return False
        _, written = parameter(self.ours, new, value, {})
        self._told(path, "extra_forbidden", f"the hyperparameter {new} stands in a section", self._placed(new, value, written))
        return True

    def _joined(self, section: str, entries: Any, path: Path) -> None:
        """Put the entries into the section, below what it has already."""
        there = self.result.get(section)
        if isinstance(entries, dict) and (there is None or isinstance(there, dict)):
            self.result[section] = {**entries, **(there or {})}
        self._told(path, "extra_forbidden", f"it is part of {section} here", (section,))

    def _told(self, path: Path, code: str, reason: str, *parts: Path) -> None:
        self.moves.append(_Move(path, code, reason, parts))

    def _dropped(self, path: Path, code: str, name: str) -> None:
        self.drops.append(Fault(path, code, f"there is no such field here, since {self.ours.dropped[name]}; drop it"))

    def _complete_objective(self) -> None:
        """A direction or a metric alone says the other one: a metric has one direction that is better."""
        found = self.result.get("objective")
        if not isinstance(found, dict) or {"metric", "direction"} <= found.keys():
            return
        metric, direction = found.get("metric"), found.get("direction")
        metrics = self.ours.metrics
        if isinstance(metric, str) and metric in metrics:
            self.result["objective"] = {"metric": metric, "direction": metrics[metric].direction, **found}
        elif (first := next((name for name, one in metrics.items() if one.direction == direction), None)) is not None:
            self.result["objective"] = {"metric": first, **found}
        else:
            return
        if not any(("objective",) in move.parts for move in self.moves):
            lacking = "metric" if "metric" not in found else "direction"
            self._told(("objective", lacking), "missing", "this field is required", ("objective",))


def _section_like(name: str) -> str | None:
    """The field of a study that is spelled nearly so."""
    near = difflib.get_close_matches(key(name), _by_key(), 1, 0.85)
    return _by_key()[near[0]] if near else None


@cache
def _by_key() -> Mapping[str, str]:
    return {key(name): name for name in StudySpec.model_fields}


def _same(left: Any, right: Any) -> bool:
    """Whether both are equal in a document, where 1, 1.0 and true differ. They differ at their first level or below."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and left == right


def _why(name: str, new: str, value: Any, written: Any) -> Iterator[tuple[Path, str, str]]:
    """The place inside the parameter and the code that the validator would give for it, and the reason in words."""
    if new != name:
        yield (), "unknown_parameter", f"the trainer calls this {new}"
    elif not isinstance(written, dict):
        yield (), "model_type", "a parameter with one value does not vary, so it stands in fixed"
    elif not isinstance(value, dict):
        yield (), "model_type", "a parameter is a mapping with its type"
    elif not any(PARAMETER.get(key(entry)) == "type" for entry in value):
        yield (), "union_tag_not_found", f"a parameter needs a type: float, int or categorical; {written['type']} fits the other fields"
    elif value.get("type") not in OUR_TYPES:
        yield (), "union_tag_invalid", "the types are float, int and categorical"
    elif value.keys() != written.keys():
        yield (), "extra_forbidden", "a parameter has other fields"
    else:
        for entry, item in value.items():
            if not _same(item, written[entry]):
                yield from (((entry, *inside), code, reason) for inside, code, reason in _why_entry(entry, item, written[entry]))


def _why_entry(entry: str, value: Any, written: Any) -> Iterator[tuple[Path, str, str]]:
    """The same for a field whose name is right."""
    if entry == "choices" and isinstance(value, list) and isinstance(written, list):
        for index, (choice, ours) in enumerate(zip(value, written, strict=True)):
            if not _same(choice, ours):
                yield (
                    (index,),
                    *(("literal_error", "it is spelled so") if isinstance(ours, str) else ("int_type", "numbers have no quotes")),
                )
    elif entry == "when" and isinstance(value, dict) and isinstance(written, dict):
        for parent, ours in zip(value, written, strict=False):
            if parent != ours:
                yield (parent,), "unknown_condition", f"the trainer calls this {ours}"
            elif not isinstance(value[parent], list):
                yield (parent,), "tuple_type", "a condition lists the values of the other parameter"
            elif not _same(value[parent], written[parent]):
                yield (parent,), "impossible_condition", "the values are spelled as the other parameter's choices"
    else:
        yield (), "extra_forbidden", "Thawline writes this in another way"
