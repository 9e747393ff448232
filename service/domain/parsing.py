"""Parse a study document into a StudySpec, and report every fault that shows without reading data or weights."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from search_spaces import Fault, Int, Params, Path, SearchSpace, contains, nearest, presets
from search_spaces.documents import impurities
from search_spaces.parameters import NAME
from service.domain.consistency import (
    condition_faults,
    fit_faults,
    fixed_faults,
    grid_faults,
    space_faults,
    stage_faults,
    too_many_stages,
    twice_faults,
)
from service.domain.errors import InvalidInput
from service.domain.fault_messages import (
    Inherited,
    faults_of,
    nearest_task,
    unknown_model,
    unknown_parameter,
    unknown_preset,
    unknown_task,
    with_remedies,
)
from service.domain.spec import MAX_TRIALS, StudySpec, TrainingStudy, searchable
from service.domain.synonyms import translate
from trainer.configuration import ALL_STAGES, FIRST_TASK
from trainer.tasks.base import ModelInfo, TaskSpec, UndescribedModel, described_model
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of, specs

MOST_QUEUED = 1_000  # trials in one request
MOST_REPAIRS = 5  # validation passes; each one removes all parts found faulty by the pass before
INVISIBLE = frozenset({"Cf", "Zl", "Zp"})  # Unicode categories without a glyph: names that differ in them look the same
INVALID_NAME = "a name starts with a letter or _, then letters, digits, _ and .; at most 64; rename it"
NUMBERED_NAME = re.compile(r"[0-9a-f]{16}\Z")


@dataclass(frozen=True)
class Examined:
    """The faults of a document, and the spec of its valid parts."""

    faults: tuple[Fault, ...]
    spec: StudySpec | None  # stand-ins replace the parts with faults; None when no spec can be completed
    stand_ins: frozenset[str] = frozenset()  # sections and hyperparameters whose values are stand-ins
    inherited: Inherited | None = None

    def with_origin(self, fault: Fault) -> Fault:
        """The fault of a file that the document names; its message states if the value is the preset's."""
        return fault if self.inherited is None else self.inherited.with_origin(fault)


def parse_study(document: object) -> StudySpec:
    """The spec that the document describes, with its preset expanded and its open ranges closed.

    Raises InvalidInput with every fault. Opens no files but the description of a model that is a folder:
    `service.inspection.checked_study` checks data and weights.
    """
    examined = examine(document)
    if examined.faults or examined.spec is None:
        raise InvalidInput(examined.faults)
    return examined.spec


def examine(document: object) -> Examined:
    """All faults of the document. Each check runs on the parts in which the earlier checks found no fault."""
    if faults := tuple(impurities(document)):
        return Examined(faults, None)
    if not isinstance(document, dict):
        return Examined((Fault((), "not_a_mapping", "a study is a mapping of fields; see the README for an example"),), None)
    document, unknown = _with_nearest_task(document)
    translation = translate(document)
    draft = _Draft(translation.document, [*unknown, *translation.faults])
    draft.expand()
    spec = draft.validated()
    if spec is not None:
        spec = draft.closed(spec)
    if spec is not None:
        draft.check(spec)
        spec = draft.with_baseline(spec)
    inherited = draft.inherited
    faults = tuple(draft.faults) if inherited is None else tuple(map(inherited.with_origin, draft.faults))
    return Examined(faults, spec, frozenset(draft.stand_ins), inherited)


def _with_nearest_task(document: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The document with the installed task whose name is nearly the document's, and the fault of the name."""
    name = document.get("task")
    if not isinstance(name, str) or name in specs() or (near := nearest_task(name)) is None:
        return document, []
    return {**document, "task": near}, [unknown_task(("task",), near)]


class _Draft:
    """A document under examination. Collects faults, and replaces the parts that have faults with valid stand-ins."""

    def __init__(self, document: dict[str, Any], faults: Iterable[Fault]) -> None:
        self.document = document
        self.faults = list(faults)
        self.stand_ins: set[str] = set()
        self.inherited: Inherited | None = None
        self.task = self._task()
        self._section_stand_ins = {"name": "study", "budget": {"trials": MAX_TRIALS}, **self.task.stand_ins}
        """Valid values for required sections that have faults, so that the other sections can be checked. They are never stored."""
        # The section that the stand-in replaces has a test part, which `confirm` needs.
        if "data" in self.task.stand_ins and not _is_without_test_part(document):
            self._section_stand_ins["data"] = {**self.task.stand_ins["data"], "test": 0.2}
        self._reported = {(fault.path, fault.code) for fault in self.faults}

    def _task(self) -> TaskSpec:
        """The document's task. A task that is not installed is a fault; the other sections are then checked as those of the first task."""
        name = self.document.get("task", FIRST_TASK)
        if isinstance(name, str) and name in specs():
            return spec_of(name)
        self.faults.append(unknown_task(("task",)))
        self.document = {key: value for key, value in self.document.items() if key != "task"}
        return spec_of(FIRST_TASK)

    def add(self, faults: Iterable[Fault]) -> list[Fault]:
        """Collect the faults. Returns those that were not reported before."""
        new = []
        for fault in faults:
            if (fault.path, fault.code) not in self._reported:
                self._reported.add((fault.path, fault.code))
                new.append(fault)
        self.faults += new
        return new

    def expand(self) -> None:
        """Fill the search space from the preset, replace `frozen_layers: all` with the number of stages, and add default weights."""
        name = self.document.get("preset")
        if name is not None and name not in (own := presets.names(self.task.name)):
            self.add([unknown_preset(name, self.task, own)])
            self.document = {key: value for key, value in self.document.items() if key != "preset"}
            if "search_space" not in self.document:
                self._replace_space()
        self.document, self.inherited = _with_preset(self.document)
        if not isinstance(self.task, ExternalRunner):
            self.document = _with_default_weights(self._with_all_stages(), self.task)

    def _with_all_stages(self) -> dict[str, Any]:
        """Replace `frozen_layers: all` in fixed and baseline with the model's number of stages, or with ALL_STAGES for an unknown one."""
        model = self.document.get("model")
        described = described_model(self.task, model.get("name") if isinstance(model, dict) else None)
        known, stages = described is not None, described.stages if described is not None else ALL_STAGES
        written = {part: section for part in ("fixed", "baseline") if isinstance(section := self.document.get(part), dict)}
        frozen = {part: section for part, section in written.items() if section.get("frozen_layers") == "all"}
        if not known and "baseline" in frozen:
            self.stand_ins.add("baseline")
        return self.document | {part: {**section, "frozen_layers": stages} for part, section in frozen.items()}

    def validated(self) -> StudySpec | None:
        """The spec, with stand-ins for faulty parts. None when it cannot be completed."""
        # Pydantic stops at the first fault in some parts, so a repaired document can show new faults: validate until none is left.
        for _ in range(MOST_REPAIRS):
            found, spec = list(_early_faults(self.document, self.task)), None
            try:
                spec = StudySpec.model_validate(self.document)
            except ValidationError as error:
                found += [fault for item in error.errors(include_url=False) for fault in faults_of(item)]
            if not found:
                return spec
            self.add(with_remedies(found, self.document, self.task))
            if any(not fault.path for fault in found):
                return None
            self._replace_parts({fault.path[:2] for fault in found})
        return None

    def _replace_parts(self, places: Iterable[Path]) -> None:
        for place in places:
            self._replace_part(place)

    def _replace_part(self, place: Path) -> None:
        """Remove the smallest removable part that contains the place, or replace it with a stand-in."""
        section = str(place[0])
        value = self.document.get(section)
        if section == "search_space" and isinstance(value, dict) and len(place) > 1:
            self._remove_parameter(str(place[1]))
        elif section == "search_space":
            self._replace_space()
        elif section == "fixed" and isinstance(value, dict) and len(place) > 1:
            self.stand_ins.add(str(place[1]))
            self.document = self.document | {section: {name: one for name, one in value.items() if name != place[1]}}
        else:
            self.stand_ins.add(section)
            self.document = {name: one for name, one in self.document.items() if name != section}
            if section in self._section_stand_ins:
                self.document[section] = self._section_stand_ins[section]

    def _remove_parameter(self, name: str) -> None:
        """Remove the parameter, and the conditions that name it."""
        self.stand_ins |= {"search_space", name}
        space = {
            other: {**parameter, "when": {parent: values for parent, values in when.items() if parent != name}}
            if isinstance(parameter, dict) and isinstance(when := parameter.get("when"), dict)
            else parameter
            for other, parameter in self.document["search_space"].items()
            if other != name
        }
        self.document = self.document | {"search_space": space}
        if not space:
            self._replace_space()

    def _replace_space(self) -> None:
        fixed = self.document.get("fixed")
        free = next(
            name for name in ("lr", "momentum", "weight_decay", "dropout", "beta1") if not isinstance(fixed, dict) or name not in fixed
        )
        self.stand_ins |= {"search_space", free}
        self.document = self.document | {"search_space": {free: {"type": "float", "low": 0.01, "high": 0.1}}}

    def closed(self, spec: StudySpec) -> StudySpec | None:
        """The spec with its open ranges closed."""
        if not isinstance(spec, TrainingStudy):
            return self._with_ranges(spec, None)
        model = list(_model_faults(spec, self.task))
        self.add(with_remedies(model, self.document, self.task))
        if any(fault.path == ("model", "name") for fault in model):
            self.stand_ins.add("model")
            spec = spec.model_copy(update={"model": type(spec.model)(**self.task.stand_ins["model"])})
        described = self._described(spec)
        if described is None and "model" not in self.stand_ins:
            self.add(_unknown_depths(spec))
        return self._with_ranges(spec, ALL_STAGES if described is None else described.stages)

    def _with_ranges(self, spec: StudySpec, stages: int | None) -> StudySpec:
        spec, faults = _with_open_ranges_closed(spec, stages)
        self.stand_ins |= {str(fault.path[1]) for fault in self.add(faults)} | ({"search_space"} if faults else set())
        return spec

    def _described(self, spec: TrainingStudy) -> ModelInfo | None:
        """The description of the document's model; None if it has faults, or cannot be described here."""
        return None if "model" in self.stand_ins else described_model(self.task, spec.model.name)

    def check(self, spec: StudySpec) -> None:
        """Check the sections against each other."""
        faults = list(twice_faults(spec))
        if isinstance(spec, TrainingStudy):
            faults += [*space_faults(spec), *fixed_faults(spec), *condition_faults(spec)]
            if (model := self._described(spec)) is not None:
                faults += [*stage_faults(spec, model), *fit_faults(spec, model)]
        if not {"search_space", "sampler", "budget"} & self.stand_ins:
            faults += grid_faults(spec)
        # A parameter that was replaced by a stand-in has been reported already; a fault of the stand-in would mislead.
        own = [fault for fault in faults if not (fault.path[0] in ("search_space", "fixed") and fault.path[1] in self.stand_ins)]
        for fault in self.add(own):
            self.stand_ins |= {str(fault.path[1])} if fault.path[0] in ("search_space", "fixed") else set()
            if fault.path[0] == "search_space":
                self.stand_ins.add("search_space")

    def with_baseline(self, spec: StudySpec) -> StudySpec:
        """The spec with its baseline completed, unless the search space, the baseline or the fixed values are stand-ins."""
        if {"search_space", "baseline", "fixed"} & self.stand_ins:
            return spec
        spec, faults = _with_baseline_completed(spec)
        self.add(faults)
        return spec


def parse_params(spec: StudySpec, params: object) -> Params:
    """Parameters for a queued trial; the sampler adds those that are left out. Raises InvalidInput; pointers begin at `#/params`."""
    return _params(spec, params, ("params",))


def _params(spec: StudySpec, params: object, place: tuple[str | int, ...]) -> Params:
    if not isinstance(params, dict):
        raise InvalidInput([Fault(place, "not_a_mapping", "a trial's parameters are a mapping of parameter to value")])
    if not params:
        raise InvalidInput([Fault(place, "empty", "give at least one parameter; the sampler adds the others")])
    faults = [*impurities(params), *spec.search_space.faults_of_some(params)]
    if faults:
        raise InvalidInput(fault.below(place) for fault in faults)
    return dict(params)


def parse_params_list(spec: StudySpec, trials: object) -> list[Params]:
    """Parameters for queued trials, in order. Raises InvalidInput with the faults of all trials; pointers begin at `#/trials/<index>`."""
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


def without_replace(document: object) -> tuple[object, bool]:
    """The document without its key `replace`, which is not stored with the study, and the value of that key. Raises InvalidInput."""
    if not isinstance(document, dict) or "replace" not in document:
        return document, False
    if not isinstance(replace := document["replace"], bool):
        raise InvalidInput([Fault(("replace",), "bool_type", "write true to take the name of an ended study, or leave it out")])
    return {key: value for key, value in document.items() if key != "replace"}, replace


def _with_preset(document: dict[str, Any]) -> tuple[dict[str, Any], Inherited | None]:
    """The document with its preset expanded, and what it takes from the preset."""
    if (name := document.get("preset")) is None:
        return document, None
    preset = presets.load(name)
    own_space, own_fixed = document.get("search_space") or {}, document.get("fixed") or {}
    if not isinstance(own_space, dict) or not isinstance(own_fixed, dict):
        return document, None  # the validator reports the fault
    space = {key: value for key, value in preset.search_space.items() if key not in own_fixed} | own_space
    fixed = {key: value for key, value in preset.fixed.items() if key not in space} | own_fixed
    places = {("search_space", one) for one in space.keys() - own_space.keys()} | {
        ("fixed", one) for one in fixed.keys() - own_fixed.keys()
    }
    return {**document, "search_space": space, "fixed": fixed}, Inherited(name, frozenset(places))


def _is_without_test_part(document: Mapping[str, Any]) -> bool:
    """Whether the document's section `data` gives no test part, whatever its faults are."""
    data = document.get("data")
    return isinstance(data, dict) and data.get("test", 0) == 0 and data.get("split") != "given" and data.get("test_path") is None


def _with_default_weights(document: dict[str, Any], task: TaskSpec) -> dict[str, Any]:
    """Fill in the default pretrained weights of a model that names none. `_early_faults` refuses a model without published weights."""
    if (name := _name_without_weights(document, task)) is None or not task.describe(name).weights:
        return document
    return {**document, "model": {**document["model"], "weights": "DEFAULT"}}


def _name_without_weights(document: dict[str, Any], task: TaskSpec) -> str | None:
    """The name of a known model for which the document gives no weights."""
    model = document.get("model")
    if not isinstance(model, dict) or model.get("weights") is not None:
        return None
    name = model.get("name")
    return name if isinstance(name, str) and described_model(task, name) is not None else None


def _unknown_depths(spec: TrainingStudy) -> Iterator[Fault]:
    """Faults of an open range and of a baseline that freeze all stages of a model whose number of stages is not known on this machine.

    `frozen_layers: all` in fixed is not among them: the check of the data finds the number, see `consistency.with_all_stages`.
    """
    message = "the model cannot be read on the server, so its number of stages is not known here; write"
    frozen = spec.search_space.root.get("frozen_layers")
    if isinstance(frozen, Int) and frozen.high is None:
        yield Fault(("search_space", "frozen_layers", "high"), "unknown_stages", f"{message} high")
    if spec.baseline is not None and spec.baseline.get("frozen_layers") == ALL_STAGES:
        yield Fault(("baseline", "frozen_layers"), "unknown_stages", f"{message} a number")


def _early_faults(document: dict[str, Any], task: TaskSpec) -> Iterator[Fault]:
    if model := _name_without_weights(document, task):
        yield Fault(
            ("model", "weights"),
            "no_default_weights",
            f"{model} has no published weights; name a weights file, or write weights: random for random initial values",
        )
    name = document.get("name")
    if isinstance(name, str) and (NUMBERED_NAME.match(name) or "/" in name or name in (".", "..") or name != name.strip()):
        yield Fault(
            ("name",),
            "invalid_name",
            "a name has no slash, no space at its ends, is not . or .., and does not look like an id (16 hex digits); choose another",
        )
    if isinstance(name, str) and (invisible := sorted({one for one in name if unicodedata.category(one) in INVISIBLE})):
        listed = ", ".join(f"U+{ord(one):04X}" for one in invisible)
        yield Fault(("name",), "invalid_name", f"a name has no zero-width, format or line-separator characters; remove {listed}")
    space, fixed = document.get("search_space"), document.get("fixed")
    if space == {}:
        yield Fault(("search_space",), "empty_search_space", "nothing varies; add a parameter")
    yield from _name_faults(space if isinstance(space, dict) else {}, fixed if isinstance(fixed, dict) else {}, task)


def _name_faults(space: Mapping[str, Any], fixed: Mapping[str, Any], task: TaskSpec) -> Iterator[Fault]:
    """Faults of the names of parameters. The search space itself checks those that may be any."""
    if isinstance(task, ExternalRunner):
        yield from (Fault(("fixed", name), "invalid_name", INVALID_NAME) for name in fixed if not NAME.match(name))
        return
    known = searchable(task)
    for parameter in sorted(space.keys() - known):
        yield unknown_parameter(("search_space", parameter), known, task)
    known = set(task.Hyperparameters.model_fields)
    for parameter in sorted(fixed.keys() - known):
        yield unknown_parameter(("fixed", parameter), known, task)


def _model_faults(spec: TrainingStudy, task: TaskSpec) -> Iterator[Fault]:
    try:
        known = task.describe(spec.model.name).weights
    except UndescribedModel as error:
        local = spec.data.location == "server" and not spec.model.is_published
        if local or not error.elsewhere:
            yield Fault(("model", "name"), error.code, error.text)
        return
    except KeyError:
        yield unknown_model(task)
        return
    named = spec.model.pretrained and spec.model.weights_file is None
    if named and (spec.model.weights.rpartition(".")[2] not in (*known, "DEFAULT") or not known):
        listed = ", ".join(known) or "none"
        yield Fault(
            ("model", "weights"),
            "unknown_weights",
            f"this is neither a file (.safetensors, .pt, .pth) nor a name of this model's published weights ({listed}); "
            "choose one of these, or write random",
        )


def _with_open_ranges_closed(spec: StudySpec, stages: int | None) -> tuple[StudySpec, list[Fault]]:
    """The spec with missing upper bounds filled in, and a fault for each range that has no natural upper bound.

    Only `frozen_layers` of a model has one: its number of stages. `stages` is None for a task without models.
    """
    space, faults = dict(spec.search_space.root), list[Fault]()
    for name, parameter in space.items():
        if isinstance(parameter, Int) and parameter.high is None:
            most = stages if name == "frozen_layers" else None
            if most is None:
                faults.append(Fault(("search_space", name, "high"), "missing", "this field is required; add it"))
            elif parameter.low > most:
                faults.append(too_many_stages(("search_space", name, "low"), most))
            space[name] = parameter.model_copy(update={"high": parameter.low if most is None else max(most, parameter.low)})
    try:
        closed = SearchSpace.model_validate({name: parameter.model_dump() for name, parameter in space.items()})
    except ValidationError as error:
        located = [item | {"loc": ("search_space", *item["loc"])} for item in error.errors()]
        faults += [fault for item in located for fault in faults_of(item)]
        # The conditions no longer fit the closed ranges. Without them the other parameters can still be checked.
        closed = SearchSpace({name: parameter.model_copy(update={"when": {}}) for name, parameter in space.items()})
    return spec.model_copy(update={"search_space": closed}), faults


def _with_baseline_completed(spec: StudySpec) -> tuple[StudySpec, list[Fault]]:
    """The spec with a value for every active parameter in its baseline, and the faults of the baseline.

    Parameters that the document's baseline leaves out take the trainer's default. A study with `confirm` and without a baseline gets one
    of all defaults, since the confirmation compares with it; a default outside the space is replaced by the nearest value in it.
    Parameters of a program have no defaults.
    """
    if spec.baseline is None and (spec.confirm is None or not isinstance(spec, TrainingStudy)):
        return spec, []
    params = dict(spec.baseline or {})
    fields = spec.hyperparameters.model_fields if isinstance(spec, TrainingStudy) else {}
    for name, parameter in spec.search_space.parameters.items() if fields else ():
        default = fields[name].default
        if name in params or not spec.search_space.active(name, params):
            continue
        if contains(parameter, default):
            params[name] = default
        elif spec.baseline is None:
            params[name] = nearest(parameter, default)
    faults = [_of_baseline(fault, fields).below(("baseline",)) for fault in spec.search_space.faults_of(params)]
    return spec.model_copy(update={"baseline": params}), faults


def _of_baseline(fault: Fault, hyperparameters: Collection[str]) -> Fault:
    """The fault of a baseline's value; a hyperparameter that does not vary belongs in another section."""
    if fault.code != "unknown_parameter" or fault.path[0] not in hyperparameters:
        return fault
    remedy = f"write {fault.path[0]} under fixed, or remove it"
    return Fault(fault.path, fault.code, f"a baseline gives values only to parameters of the search space; {remedy}")
