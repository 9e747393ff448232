"""Convert pydantic's errors into faults whose messages name the remedy."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from search_spaces import Fault, Faulty, Path, presets
from service.domain.samplers import Pruner, Sampler
from service.domain.spec import StudySpec, searchable
from service.domain.synonyms.sections import OUR_FIELDS
from trainer.configuration import FIRST_TASK
from trainer.tasks.base import TaskSpec
from trainer.tasks.registry import specs

UNIONS = (("search_space", 1), ("sampler", 0), ("pruner", 0))  # section, and number of keys below it before the tag in pydantic's location
SCALARS = {"bool": "bool_type", "int": "int_type", "float": "float_type", "str": "string_type"}  # pydantic's errors of `Scalar`, by tag
MOST_REMEDIES = 100  # per document, since the search for similar names is slow
MOST_NEAREST = 3  # names that a message suggests
FEWEST_CHARACTERS = 2  # of a name of which others are suggested that begin with it

MESSAGES: Mapping[str, str] = {
    "missing": "this field is required; add it",
    "extra_forbidden": "there is no such field here; remove it or correct its name",
    "finite_number": "NaN and Infinity are not accepted; write a finite number",
    "union_tag_not_found": "a type or name is missing here; add it",
    "model_type": "a mapping of fields is expected here",
    "model_attributes_type": "a mapping of fields is expected here",
    "dict_type": "a mapping of fields is expected here",
    "mapping_type": "a mapping of fields is expected here",
    "tuple_type": "a list is expected here; write the values in brackets, such as [1, 2]",
    "int_type": "a whole number is expected here; write one without quotes and without a fraction",
    "int_parsing": "a whole number is expected here; write one without quotes and without a fraction",
    "int_from_float": "a whole number is expected here; write one without a fraction",
    "float_type": "a number is expected here; write one without quotes",
    "float_parsing": "a number is expected here; write one without quotes",
    "bool_type": "true or false is expected here; write one of the two without quotes",
    "bool_parsing": "true or false is expected here; write one of the two without quotes",
    "string_type": "a text is expected here; write one, in quotes if it looks like a number",
}
EXAMPLES: Mapping[Path, str] = {
    ("name",): "name: my-study",
    ("budget",): "budget: {trials: 40}",
    ("sampler",): "sampler: {name: tpe}",
    ("pruner",): "pruner: {name: median}",
}
EXAMPLE_VALUES: Mapping[Path, str] = {
    ("data", "validation"): "validation: 0.2",
    ("data", "test"): "test: 0.2",
    ("budget", "trials"): "trials: 40",
    ("budget", "hours"): "hours: 2",
}
LENGTHS: Mapping[str, str] = {
    "string_too_short": "at least {min_length} characters are required here; lengthen it",
    "string_too_long": "at most {max_length} characters are accepted here; shorten it",
    "too_short": "at least {min_length} entries are required here; add some",
    "too_long": "at most {max_length} entries are accepted here; remove some",
}


@dataclass(frozen=True, slots=True)
class Inherited:
    """The parameters that a document takes from its preset."""

    preset: str
    places: frozenset[Path]  # section and name

    def with_origin(self, fault: Fault) -> Fault:
        """The fault; for a value of the preset the message names the preset, and the way to override it."""
        if fault.path[:2] not in self.places:
            return fault
        name = fault.path[1]
        origin = f"{name} is from the preset {self.preset}; to override it, write {name} under search_space or fixed"
        return Fault(fault.path, fault.code, f"{fault.message} ({origin})")


def unknown_parameter(place: Path, known: Collection[str], task: TaskSpec) -> Fault:
    """The fault of a hyperparameter that the task does not have."""
    listed = _listed_by(task, "/api/v1/study-schema", len(known))
    return Fault(place, "unknown_parameter", f"the trainer has no such parameter; {listed}")


def unknown_model(task: TaskSpec) -> Fault:
    """The fault of a model that the task does not have."""
    return Fault(("model", "name"), "unknown_model", f"the catalogue has no such model; {_models_listed_by(task)}")


def _models_listed_by(task: TaskSpec) -> str:
    return _listed_by(task, "/api/v1/models", len(task.models()))


def _listed_by(task: TaskSpec, route: str, count: int) -> str:
    """A phrase on where the names of a task are listed. The route has those of the first task."""
    if task.name == FIRST_TASK:
        return f"`thaw study schema` and GET {route} list all {count}"
    return f"`thaw study schema --task {task.name}` lists all {count}"


def unknown_preset(name: object, task: TaskSpec, own: Collection[str]) -> Fault:
    """The fault of a preset that does not ship, or not with this task."""
    if not own:
        return Fault(("preset",), "unknown_preset", "this task has no presets; remove it")
    other = isinstance(name, str) and name in presets.names()
    message = f"this preset is not for {task.name}" if other else "no such preset ships with Thawline"
    return Fault(("preset",), "unknown_preset", f"{message}; choose one of {', '.join(own)}")


def nearest_task(name: str) -> str | None:
    """The installed task whose name is nearly this one."""
    found = difflib.get_close_matches(name[:64].lower().replace("-", "_"), specs(), 1, 0.9)
    return found[0] if found else None


def unknown_task(place: Path, near: str | None = None) -> Fault:
    """The fault of a task that is not installed."""
    if near is not None:
        return Fault(place, "unknown_task", f"no such task is installed; did you mean {near}?")
    return Fault(place, "unknown_task", f"no such task is installed; choose one of {', '.join(sorted(specs()))}")


def faults_of(item: ErrorDetails) -> Iterator[Fault]:
    """The faults of one pydantic error. The path omits the tags of unions, and the message omits the input.

    An error that wraps Faulty gives that exception's faults, with the error's location as prefix.
    """
    place, code = _without_tags(item["loc"]), item["type"]
    if len(place) > 2 and SCALARS.get(str(place[-1])) == code:
        yield Fault(place[:-1], "scalar_type", "one value is expected here; write a number, a text, true or false")
        return
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Faulty):
        yield from (fault.below(place) for fault in cause.faults)
    else:
        yield Fault(place, code, _message(item))


def _message(item: ErrorDetails) -> str:
    if item["type"] == "union_tag_invalid":
        return f"unknown value; choose one of {item['ctx']['expected_tags']}"
    if item["type"] in LENGTHS:
        return LENGTHS[item["type"]].format_map(item["ctx"])
    message = MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    return message if ";" in message else f"{message}; change it"


def with_remedies(faults: Iterable[Fault], document: Mapping[str, Any], task: TaskSpec) -> Iterator[Fault]:
    """The faults; their messages quote the line to write, or suggest the nearest known name, where there is one."""
    for count, fault in enumerate(faults):
        yield Fault(fault.path, fault.code, _remedy(fault, document, task) or fault.message) if count < MOST_REMEDIES else fault


def _remedy(fault: Fault, document: Mapping[str, Any], task: TaskSpec) -> str | None:
    match fault.code, fault.path:
        case ("missing" | "tuple_type") as code, place if (line := _line(place, task)) is not None:
            return f"{'this field is required' if code == 'missing' else 'a list is expected here'}; write `{line}`"
        case "union_tag_not_found", ("search_space", _):
            return "a parameter needs a type; write `type: float` or `type: int` with low and high, or `type: categorical` with choices"
        case "union_tag_not_found", (("sampler" | "pruner") as section, *_):
            return f"the {section} needs a name; write `{EXAMPLES[(section,)]}`"
        case "tuple_type", ("search_space", _, "when", parent):
            name = parent if parent in searchable(task) else "..."
            return f"a condition lists values; write `when: {{{name}: [...]}}` with them in brackets"
        case "extra_forbidden", (*parents, name):
            return _did_you_mean(str(name), _fields_at(tuple(parents), document, task), fault.message)
        case (("float_type" | "float_parsing" | "int_type" | "int_parsing" | "int_from_float"), place) if place in EXAMPLE_VALUES:
            return f"{fault.message}, such as `{EXAMPLE_VALUES[place]}`"
        case "unknown_model", _:
            near = _nearest(str(document["model"]["name"]), task.models())
            return f"the catalogue has no such model; did you mean {near}? {_models_listed_by(task)}" if near else None
        case "unknown_parameter", (section, name, *_):
            return _unknown_parameter(section, str(name), task)
        case "union_tag_invalid", (("sampler" | "pruner") as section,):
            return _did_you_mean(str(document[section].get("name")), _options_by_name(section), fault.message)
    return None


def _unknown_parameter(section: str | int, name: str, task: TaskSpec) -> str | None:
    own = set(task.Hyperparameters.model_fields)
    if name in own:
        return f"a study cannot vary {name}; write it under fixed, or leave it out"
    near = _nearest(name, searchable(task) if section == "search_space" else own)
    return f"the trainer has no such parameter; did you mean {near}?" if near else None


def _nearest(name: str, known: Iterable[str]) -> str:
    """Up to three similar names as a phrase, the nearest first; if none is similar, those that begin with the name. May be empty."""
    written, names = name[:64].lower(), sorted(known)
    found = difflib.get_close_matches(written, names, len(names) or 1)
    # Of equally similar names get_close_matches returns the last ones of the alphabet.
    found.sort(key=lambda one: (-difflib.SequenceMatcher(None, one, written).ratio(), one))
    if not found and len(written) >= FEWEST_CHARACTERS:
        found = [one for one in names if one.startswith(written)]
    near = found[:MOST_NEAREST]
    return " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))


def _did_you_mean(name: str, known: Iterable[str], message: str) -> str | None:
    found = difflib.get_close_matches(name[:64].lower(), list(known), 1, 0.7)
    return f"{message}; did you mean {found[0]}?" if found else None


def _options_by_name(section: str) -> Mapping[str, Iterable[str]]:
    """The option names of each sampler or pruner, by its name."""
    members = get_args(get_args({"sampler": Sampler, "pruner": Pruner}[section])[0])
    return {one.model_fields["name"].default: one.model_fields for one in members}


def _line(place: Path, task: TaskSpec) -> str | None:
    """An example line that supplies the field missing at the place; None where there is no example."""
    if place in EXAMPLES:
        return EXAMPLES[place]
    whole = place[:1] == ("objective",) or place == ("model", "name")  # the example of the section includes these fields
    return task.lines.get(str(place[0])) if len(place) == 1 or whole else None


def _fields_at(place: Path, document: Mapping[str, Any], task: TaskSpec) -> Iterable[str]:
    """The field names of a section, or of a parameter of the search space."""
    if not place:
        return StudySpec.of_task(task.name).model_fields
    section = document.get(str(place[0]))
    if place[0] == "search_space":
        return OUR_FIELDS
    if place[0] in ("sampler", "pruner") and isinstance(section, dict):
        return _options_by_name(str(place[0])).get(str(section.get("name")), ())
    fields = StudySpec.of_task(task.name).model_fields
    annotation = fields[str(place[0])].annotation if place[0] in fields else None
    model = next((one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return model.model_fields if model else ()


def _without_tags(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    for field, depth in UNIONS:
        if loc[:1] == (field,) and len(loc) > depth + 1:
            loc = loc[: depth + 1] + loc[depth + 2 :]
    return tuple(part for part in loc if part != "[key]")
