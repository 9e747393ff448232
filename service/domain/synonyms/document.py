"""Translate a whole study document into Thawline's names, with a fault for each translated entry."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from search_spaces import Fault, Path
from service.domain.spec import TrainingStudy
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
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of, specs

MOST_TEXT = 16_000  # characters of the lines quoted in all faults of one document


@dataclass(frozen=True)
class Translation:
    """The document in Thawline's names, and a fault for each translated entry."""

    document: dict[str, Any]
    faults: list[Fault]


def translate(document: Mapping[str, Any]) -> Translation:
    """Replace recognised names and spellings. Other entries stay unchanged, so that the validator reports them.

    Nothing is replaced where parameters may have any name.
    """
    task = document.get("task")
    free = isinstance(task, str) and task in specs() and isinstance(spec_of(task), ExternalRunner)
    if free or len(document) > MOST_ENTRIES:
        return Translation(dict(document), [])
    return _Translator(document).run()


@dataclass(frozen=True)
class _Move:
    """An entry to be written differently. The fault quotes the lines of `parts` of the translated document."""

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
        for name, value in self.source.items():  # entries with correct names first: they take precedence over translated ones
            if name in TrainingStudy.model_fields:
                self._section(name, value, (name,))
        for name, value in self.source.items():
            if name not in TrainingStudy.model_fields:
                self._unknown_entry(name, value, (name,))
        self._complete_objective()
        return Translation(self.result, [*self._faults(), *self.drops])

    def _faults(self) -> Iterator[Fault]:
        left = MOST_TEXT
        for move in self.moves:
            lines = [line(self.ours, self.result, part) for part in move.parts]
            text = "; write " + " and ".join(lines) if lines else ""
            if len(text) > left:
                text = "; write it as the faults above describe (the line is too long to quote here)"
            left -= len(text)
            yield Fault(move.path, move.code, move.reason + text)

    # Sections with correct names.

    def _section(self, name: str, value: Any, path: Path) -> None:
        match name:
            case "search_space" if isinstance(value, dict | list):
                parts = self._space(listed(value), path, one_fault=isinstance(value, list))
                if isinstance(value, list):
                    self._add_move(path, "dict_type", "a search space is a mapping of parameters", *parts)
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
        """Store the translated section. Each entry that changed gets a fault with the line of the whole section."""
        self.result[name] = new
        if _same(new, old):
            return
        if not isinstance(old, dict):
            self._add_move(path, "model_type", f"{name} is a mapping of fields", (name,))
            return
        for entry, item in old.items():
            if entry not in new:
                self._add_move((*path, entry), "extra_forbidden", f"{name} has no field of this name", (name,))
            elif not _same(new[entry], item):
                self._add_move((*path, entry), "literal_error", "this value has another spelling here", (name,))
        if new.keys() > old.keys():
            missing = next(iter(new.keys() - old.keys()))
            self._add_move((*path, missing), "missing", "this field is required", (name,))

    def _space(self, space: Mapping[str, Any], path: Path, one_fault: bool) -> tuple[Path, ...]:
        """Translate a search space. Returns the parts of the translated document that hold it.

        Each changed parameter gets its own fault, unless the caller reports one fault for all (`one_fault`).
        """
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
                self.drops.append(Fault((*path, name), "unknown_parameter", f"this is {new}, which is there already; remove it"))
                continue
            part = self._placed(new, value, written)
            parts[part if part[0] == "fixed" else ("search_space",)] = None
            if not one_fault and (new != name or not _same(written, value)):
                for inside, code, reason in _why(name, new, value, written):
                    self._add_move((*path, name, *inside), code, reason, part)
        return tuple(parts)

    def _placed(self, name: str, value: Any, written: Any) -> Path:
        """Store the parameter in the search space, or in `fixed` if it has one value. Returns its path."""
        one_value = not isinstance(written, dict) and (isinstance(value, dict) or name in self.ours.parameters)
        section = "fixed" if one_value and isinstance(self.result.get("fixed", {}), dict) else "search_space"
        self.result.setdefault(section, {})[name] = written
        return section, name

    def _values(self, section: str, values: Mapping[str, Any], path: Path, moved: bool = False) -> None:
        """Translate the values in `fixed` or `baseline`. `moved`: the caller reports one fault for all entries."""
        there = self.result.setdefault(section, {})
        if not isinstance(there, dict) or len(values) > MOST_ENTRIES:
            self.result[section] = dict(values)
            return
        for name, value in values.items():
            new, spelling = named(self.ours, name, number(value) if moved else value)
            if key(name) in self.ours.dropped:
                self._dropped((*path, name), "unknown_parameter", key(name))
            elif new != name and new in values:
                self.drops.append(Fault((*path, name), "unknown_parameter", f"this is {new}, which is there already; remove it"))
            elif isinstance(value, list) and not moved and (choices := self._choices(new)):
                reason = "this has one value" if new == name else f"the trainer calls this {new}, which has one value"
                self.drops.append(Fault((*path, name), "scalar_type", f"{reason}; write {choices} under {section}"))
            else:
                there[new] = spelling
                if new != name and not moved:
                    self._add_move((*path, name), "unknown_parameter", f"the trainer calls this {new}", (section, new))
                elif spelling != value and not moved:
                    self._add_move((*path, name), "literal_error", "this value has another spelling here", (section, new))

    def _choices(self, name: str) -> str:
        """The lines that give the hyperparameter each of its values; empty if its values are not names."""
        field = self.ours.parameters.get(name)
        values = get_args(field.annotation) if field is not None else ()
        lines = [f"`{name}: {value}`" for value in values if isinstance(value, str)]
        return f"{', '.join(lines[:-1])} or {lines[-1]}" if lines else ""

    # Entries that are not fields of a study.

    def _unknown_entry(self, name: str, value: Any, path: Path) -> None:
        # Each translator returns whether it recognised the entry; the first one that does stores it and adds its faults.
        translators = (self._as_wrapper, self._as_misspelled, self._as_space, self._as_algorithm, self._as_part, self._as_hyperparameter)
        if any(translator(name, value, path) for translator in translators):
            return
        if key(name) in self.ours.dropped:
            self._dropped(path, "extra_forbidden", key(name))
        else:
            self.result[name] = value

    def _as_wrapper(self, name: str, value: Any, path: Path) -> bool:
        """A section around the whole study, such as Katib's `spec`."""
        if key(name) not in WRAPPERS or not isinstance(value, dict) or len(value) > MOST_ENTRIES or len(path) > 2:
            return False
        for inner in sorted(value, key=lambda one: one not in TrainingStudy.model_fields):
            if inner in TrainingStudy.model_fields and inner not in self.result:
                before = len(self.moves)
                self._section(inner, value[inner], (*path, inner))
                del self.moves[before:]  # one fault with the line of the whole section replaces those of its entries
                self._add_move((*path, inner), "extra_forbidden", "this belongs at the top level", (inner,))
            else:
                self._unknown_entry(inner, value[inner], (*path, inner))
        self.drops.append(Fault(path, "extra_forbidden", "a study has no such section; its fields belong at the top level; remove it"))
        return True

    def _as_misspelled(self, name: str, value: Any, path: Path) -> bool:
        """A field of a study in another spelling, or another word for its name."""
        section = "name" if key(name) in NAME else _section_like(name)
        if section is None or section in self.result:
            return False
        if section == "name":
            self.result[section] = value.get("name") if isinstance(value, dict) else value
        else:
            before = len(self.moves)
            self._section(section, value, path)
            del self.moves[before:]
        self._add_move(path, "extra_forbidden", f"it is called {section} here", (section,))
        return True

    def _as_space(self, name: str, value: Any, path: Path) -> bool:
        if key(name) in SPACE and isinstance(value, dict | list):
            parts = self._space(listed(value), path, one_fault=True)
            self._add_move(path, "extra_forbidden", "it is called search_space here", *parts)
        elif key(name) in FIXED and isinstance(value, dict):
            self._values("fixed", value, path, moved=True)
            self._add_move(path, "extra_forbidden", "it is called fixed here", ("fixed",))
        else:
            return False
        return True

    def _as_algorithm(self, name: str, value: Any, path: Path) -> bool:
        """The sampler, the pruner, or one of their options."""
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
        """A hyperparameter at the top level: varied if written as a range or list, else fixed."""
        new = "schedule" if key(name) == "scheduler" else hyperparameter(self.ours, name)
        if new != "schedule" and key(name) not in self.ours.hyperparameter_names:
            return False
        _, written = parameter(self.ours, new, value, {})
        self._add_move(path, "extra_forbidden", f"the hyperparameter {new} belongs in a section", self._placed(new, value, written))
        return True

    def _joined(self, section: str, entries: Any, path: Path) -> None:
        """Add the entries to the section. Entries that it already has take precedence."""
        there = self.result.get(section)
        if isinstance(entries, dict) and (there is None or isinstance(there, dict)):
            self.result[section] = {**entries, **(there or {})}
        self._add_move(path, "extra_forbidden", f"it is part of {section} here", (section,))

    def _add_move(self, path: Path, code: str, reason: str, *parts: Path) -> None:
        self.moves.append(_Move(path, code, reason, parts))

    def _dropped(self, path: Path, code: str, name: str) -> None:
        self.drops.append(Fault(path, code, f"there is no such field here, since {self.ours.dropped[name]}; remove it"))

    def _complete_objective(self) -> None:
        """Add a missing metric or direction to the objective. Each metric has one better direction; the first metric with it is taken."""
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
            missing = "metric" if "metric" not in found else "direction"
            self._add_move(("objective", missing), "missing", "this field is required", ("objective",))


def _section_like(name: str) -> str | None:
    """The field of a study with nearly this spelling; None if there is none."""
    near = difflib.get_close_matches(key(name), _by_key(), 1, 0.85)
    return _by_key()[near[0]] if near else None


@cache
def _by_key() -> Mapping[str, str]:
    return {key(name): name for name in TrainingStudy.model_fields}


def _same(left: Any, right: Any) -> bool:
    """Whether two document values are equal, with 1, 1.0 and true counted as different."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and left == right


def _why(name: str, new: str, value: Any, written: Any) -> Iterator[tuple[Path, str, str]]:
    """Why a parameter was translated: path inside it, the fault code that the validator would give, and the reason as text."""
    if new != name:
        yield (), "unknown_parameter", f"the trainer calls this {new}"
    elif not isinstance(written, dict):
        yield (), "model_type", "a parameter with one value does not vary, so it belongs in fixed"
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
    """The same for one field of a parameter, whose name is correct."""
    if entry == "choices" and isinstance(value, list) and isinstance(written, list):
        for index, (choice, ours) in enumerate(zip(value, written, strict=True)):
            if not _same(choice, ours):
                yield (
                    (index,),
                    *(
                        ("literal_error", "this value has another spelling here")
                        if isinstance(ours, str)
                        else ("int_type", "numbers have no quotes")
                    ),
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
        yield (), "extra_forbidden", "this has another spelling here"
