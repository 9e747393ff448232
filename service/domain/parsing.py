"""From a document to a StudySpec: what the document and the catalogue alone can tell is wrong is found here, a stage at a time."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

import trainer.catalogue as catalogue
from search_spaces import Fault, Faulty, Int, Params, SearchSpace, contains, nearest, presets
from search_spaces.documents import impurities
from service.domain.errors import InvalidInput
from service.domain.samplers import Grid
from service.domain.spec import StudySpec
from trainer.contract import Hyperparameters, is_weights_file

UNION_TAGS = frozenset({"float", "int", "categorical"})
WHERE_UNIONS_ARE = (("search_space", 1), ("sampler", 0), ("pruner", 0))
NOT_SEARCHED = frozenset({"seed", "order_seed"})
MOST_QUEUED = 1_000  # trials in one request
NUMBERED_NAME = re.compile(r"[0-9a-f]{16}\Z")

MESSAGES: Mapping[str, str] = {
    "missing": "this field is required; add it",
    "extra_forbidden": "there is no such field here; remove it or correct its name",
    "finite_number": "NaN and Infinity are not accepted; write a finite number",
    "union_tag_not_found": "this needs a type or name that says what it is; add it",
    "model_type": "a mapping of fields is expected here",
    "model_attributes_type": "a mapping of fields is expected here",
}
LENGTHS: Mapping[str, str] = {
    "string_too_short": "this has at least {min_length} characters; write more",
    "string_too_long": "this has at most {max_length} characters; write less",
    "too_short": "this needs at least {min_length} entries; add some",
    "too_long": "this takes at most {max_length} entries; drop some",
}


def parse_study(document: object) -> StudySpec:
    """The spec that the document describes, with its preset expanded and its open ranges closed.

    Raises InvalidInput with every fault of the first stage that has any: form, model, ranges, baseline. Files are not looked at:
    that is `service.inspection.inspect_study`'s.
    """
    if faults := list(impurities(document)):
        raise InvalidInput(faults)
    if not isinstance(document, dict):
        raise InvalidInput([Fault((), "not_a_mapping", "a study is a mapping of fields; see the README for one")])
    document = _with_all_stages(_with_preset(document))
    spec = _validated(document, list(_early_faults(document)))
    if faults := list(_model_faults(spec)):
        raise InvalidInput(faults)
    spec = _with_open_ranges_closed(spec)
    if faults := [*_space_faults(spec), *_fixed_faults(spec), *_stage_faults(spec), *_size_faults(spec), *_grid_faults(spec)]:
        raise InvalidInput(faults)
    return _with_baseline_completed(spec)


def parse_params(spec: StudySpec, params: object) -> Params:
    """Parameters for a queued trial. Raises InvalidInput; pointers begin at `#/params`."""
    return _params(spec, params, ("params",))


def _params(spec: StudySpec, params: object, place: tuple[str | int, ...]) -> Params:
    if not isinstance(params, dict):
        raise InvalidInput([Fault(place, "not_a_mapping", "a trial's parameters are a mapping of parameter to value")])
    faults = [*impurities(params), *spec.search_space.faults_of(params)]
    if faults:
        raise InvalidInput(fault.below(place) for fault in faults)
    return dict(params)


def parse_params_list(spec: StudySpec, trials: object) -> list[Params]:
    """Parameters for queued trials, in order. Raises InvalidInput with the faults of all of them; pointers begin at `#/trials/<place>`."""
    if not isinstance(trials, list) or not 1 <= len(trials) <= MOST_QUEUED:
        raise InvalidInput([Fault(("trials",), "not_a_list", f"trials is a list of 1 to {MOST_QUEUED} mappings of parameter to value")])
    parsed, faults = list[Params](), list[Fault]()
    for place, params in enumerate(trials):
        try:
            parsed.append(_params(spec, params, ("trials", place)))
        except InvalidInput as error:
            faults += error.faults
    if faults:
        raise InvalidInput(faults)
    return parsed


def resolve_paths(document: object, base: Path) -> object:
    """The document with relative data and weights paths made absolute, relative to `base`. Leaves what it does not know."""
    if not isinstance(document, dict):
        return document
    resolved = dict(document)
    for part, key, is_path in (("data", "path", bool), ("model", "weights", is_weights_file)):
        section = document.get(part)
        if isinstance(section, dict) and isinstance(text := section.get(key), str) and text and is_path(text):
            resolved[part] = {**section, key: str(base / _expanded(text))}
    return resolved


def _expanded(text: str) -> Path:
    """The path with its `~` written out; as it is where nobody has that home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _with_preset(document: dict[str, Any]) -> dict[str, Any]:
    if (name := document.get("preset")) is None:
        return document
    if name not in presets.names():
        raise InvalidInput(
            [Fault(("preset",), "unknown_preset", f"no such preset ships with Thawline; choose one of {', '.join(presets.names())}")]
        )
    preset = presets.load(name)
    own_space, own_fixed = document.get("search_space") or {}, document.get("fixed") or {}
    if not isinstance(own_space, dict) or not isinstance(own_fixed, dict):
        return document  # the validator says what is wrong
    space = {key: value for key, value in preset.search_space.items() if key not in own_fixed} | own_space
    fixed = {key: value for key, value in preset.fixed.items() if key not in space} | own_fixed
    return {**document, "search_space": space, "fixed": fixed}


def _with_all_stages(document: dict[str, Any]) -> dict[str, Any]:
    """`frozen_layers: all` in fixed and baseline becomes the model's number of stages."""
    model = document.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if name not in catalogue.names():
        return document
    stages = len(catalogue.load(name).stages)
    written = {part: section for part in ("fixed", "baseline") if isinstance(section := document.get(part), dict)}
    return document | {
        part: {**section, "frozen_layers": stages} for part, section in written.items() if section.get("frozen_layers") == "all"
    }


def _early_faults(document: dict[str, Any]) -> Iterator[Fault]:
    name = document.get("name")
    if isinstance(name, str) and (NUMBERED_NAME.match(name) or "/" in name or name in (".", "..") or name != name.strip()):
        yield Fault(
            ("name",),
            "invalid_name",
            "a name has no slash, no space at its ends, is not . or .., and does not look like an id (16 hex digits); choose another",
        )
    space = document.get("search_space")
    if isinstance(space, dict):
        for parameter in sorted(space.keys() - _searchable()):
            yield Fault(
                ("search_space", parameter),
                "unknown_parameter",
                f"the trainer has no such parameter; it has {', '.join(sorted(_searchable()))}",
            )
        if not space:
            yield Fault(("search_space",), "empty_search_space", "nothing varies; add a parameter")
    if isinstance(fixed := document.get("fixed"), dict):
        for parameter in sorted(fixed.keys() - Hyperparameters.model_fields.keys()):
            yield Fault(
                ("fixed", parameter),
                "unknown_parameter",
                f"the trainer has no such parameter; it has {', '.join(sorted(Hyperparameters.model_fields))}",
            )


def _searchable() -> set[str]:
    return set(Hyperparameters.model_fields) - NOT_SEARCHED


def _validated(document: dict[str, Any], early: list[Fault]) -> StudySpec:
    """The spec. Raises InvalidInput with the early faults and with those of the rest of the document."""
    try:
        spec = StudySpec.model_validate(document)
    except ValidationError as error:
        raise InvalidInput([*early, *(fault for item in error.errors(include_url=False) for fault in faults_of(item))]) from None
    if early:
        raise InvalidInput(early)
    return spec


def faults_of(item: ErrorDetails) -> Iterator[Fault]:
    """Our faults for one of pydantic's errors: its place without the tags of unions, its text without the input."""
    place = _without_tags(item["loc"])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Faulty):
        yield from (fault.below(place) for fault in cause.faults)
    else:
        message = _sentence(item)
        yield Fault(place, item["type"], message)


def _sentence(item: ErrorDetails) -> str:
    if item["type"] == "union_tag_invalid":
        return f"this names none of the known ones; choose one of {item['ctx']['expected_tags']}"
    if item["type"] in LENGTHS:
        return LENGTHS[item["type"]].format_map(item["ctx"])
    message = MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    return message if ";" in message else f"{message}; change it"


def _without_tags(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    for field, depth in WHERE_UNIONS_ARE:
        if loc[:1] == (field,) and len(loc) > depth + 1:
            return loc[: depth + 1] + tuple(part for part in loc[depth + 2 :] if part != "[key]")
    return loc


def _model_faults(spec: StudySpec) -> Iterator[Fault]:
    if spec.model.name not in catalogue.names():
        yield Fault(("model", "name"), "unknown_model", "the catalogue has no such model; GET /api/v1/models lists them")
        return
    if spec.model.weights is not None and spec.model.weights_file is None:
        known = catalogue.load(spec.model.name).weights
        if spec.model.weights.rpartition(".")[2] not in (*known, "DEFAULT") or not known:
            listed = ", ".join(known) or "none"
            yield Fault(
                ("model", "weights"),
                "unknown_weights",
                f"neither a file (.safetensors, .pt, .pth) nor weights of this model; it has {listed}",
            )


def _with_open_ranges_closed(spec: StudySpec) -> StudySpec:
    stages = len(catalogue.load(spec.model.name).stages)
    space = dict(spec.search_space.root)
    for name, parameter in space.items():
        if isinstance(parameter, Int) and parameter.high is None:
            if name != "frozen_layers":
                raise InvalidInput([Fault(("search_space", name, "high"), "missing", "this field is required; add it")])
            if parameter.low > stages:
                raise InvalidInput([_too_many_stages(("search_space", name, "low"), stages)])
            space[name] = parameter.model_copy(update={"high": stages})
    try:
        closed = SearchSpace.model_validate({name: parameter.model_dump() for name, parameter in space.items()})
    except ValidationError as error:
        located = (item | {"loc": ("search_space", *item["loc"])} for item in error.errors())
        raise InvalidInput(fault for item in located for fault in faults_of(item)) from None
    return spec.model_copy(update={"search_space": closed})


def _space_faults(spec: StudySpec) -> Iterator[Fault]:
    """Each end of a range and each choice is something that the trainer takes."""
    for name in spec.search_space.root:
        if name in spec.fixed:
            yield Fault(("fixed", name), "fixed_and_varied", "the search space varies it already; drop one of the two")
        for place, value in spec.extremes(name):
            for fault in _hyperparameter_faults({name: value}):
                yield Fault(place, fault.code, fault.message)


def _fixed_faults(spec: StudySpec) -> Iterator[Fault]:
    for fault in _hyperparameter_faults(spec.fixed):
        yield fault.below(("fixed",))


def _hyperparameter_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        Hyperparameters.model_validate(dict(values), strict=True)
    except ValidationError as error:
        for item in error.errors():
            yield from faults_of(item)


def _stage_faults(spec: StudySpec) -> Iterator[Fault]:
    stages = len(catalogue.load(spec.model.name).stages)
    for place, most in _whole_extremes(spec, "frozen_layers"):
        if most > stages:
            yield _too_many_stages(place, stages)


def _too_many_stages(place: tuple[str | int, ...], stages: int) -> Fault:
    return Fault(place, "too_many_stages", f"the model has {stages} stages to freeze; lower this to {stages} or less")


def _size_faults(spec: StudySpec) -> Iterator[Fault]:
    model = catalogue.load(spec.model.name)
    for place, size in _whole_extremes(spec, "image_size"):
        if size < model.smallest_image:
            yield Fault(place, "image_too_small", f"the model needs images of at least {model.smallest_image} pixels; raise this")
        elif size % model.image_step:
            yield Fault(place, "image_size_off_step", f"the model needs a multiple of {model.image_step} pixels; change this")


def _whole_extremes(spec: StudySpec, name: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Those that are whole numbers; of the others another fault tells."""
    for place, value in spec.extremes(name):
        if isinstance(value, int):
            yield place, value


def _grid_faults(spec: StudySpec) -> Iterator[Fault]:
    if not isinstance(spec.sampler, Grid):
        return
    if (size := spec.search_space.size) is None:
        yield Fault(("sampler", "name"), "endless_grid", "a grid needs a step on each float range; add steps, or choose another sampler")
    elif size > spec.budget.max_trials:
        yield Fault(("budget", "trials"), "grid_above_budget", f"the grid has {size} combinations; raise the budget or coarsen the grid")


def _with_baseline_completed(spec: StudySpec) -> StudySpec:
    """A baseline names what it changes; every other parameter that varies takes the trainer's default.

    A study that confirms its best has a baseline to compare them with: all defaults, or what the space has nearest to them.
    """
    if spec.baseline is None and spec.confirm is None:
        return spec
    params = dict(spec.baseline or {})
    for name, parameter in spec.search_space.parameters.items():
        default = Hyperparameters.model_fields[name].default
        if name in params or not spec.search_space.active(name, params):
            continue
        if contains(parameter, default):
            params[name] = default
        elif spec.baseline is None:
            params[name] = nearest(parameter, default)
    if faults := [fault.below(("baseline",)) for fault in spec.search_space.faults_of(params)]:
        raise InvalidInput(faults)
    return spec.model_copy(update={"baseline": params})
