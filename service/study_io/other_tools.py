"""Read searches as other tools define them: W&B sweeps, Ray Tune spaces written as YAML, and Katib experiments.

`service.search.optuna_import` reads those of Optuna databases.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from search_spaces import Fault, Path
from search_spaces.documents import MAX_INTEGER
from search_spaces.parameters import MAX_STEPS
from service.domain.errors import InvalidInput
from service.domain.spec import MAX_TRIALS
from service.domain.synonyms.names import DROPPED, PARAMETER, PRUNER, PRUNERS, SAMPLERS, key, spelled
from service.domain.synonyms.sections import call_of, number, whole
from service.domain.text import clean

LONGEST_SHOWN = 80  # characters of a name or value in a comment
NO_EVALUATION = "only literal numbers, texts and lists are read, and nothing is evaluated; write the values out"
NO_GOAL = "a study does not end at a value of the metric; its budget ends it, or `thaw study stop`"
VALIDATION = re.compile(r"(?:val|valid|validation|eval)[/._ -]")  # prefix of the name of a metric


@dataclass
class ForeignSearch:
    """A search as another tool defines it, in Thawline's fields. The names of parameters are still those of the tool."""

    tool: str
    section: str = ""  # of the parameters, with a dot
    name: Any = None
    params: dict[str, dict[str, Any]] = field(default_factory=dict)  # a parameter of a search space, or {"value": ...}
    metric: Any = None
    direction: Any = None
    sampler: dict[str, Any] | None = None
    pruner: dict[str, Any] | None = None
    budget: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)  # entries without equivalent, each with the reason and the remedy
    changed: list[str] = field(default_factory=list)  # entries with another name or meaning

    def lose(self, place: object, reason: str) -> None:
        self.lost.append(f"{shown(place)}: {reason}")

    def change(self, place: object, reason: str) -> None:
        self.changed.append(f"{shown(place)}: {reason}")

    def lose_rest(self, rest: Mapping[str, Any], section: str = "") -> None:
        """Name the entries that no reader took."""
        for name in rest:
            self.lose(f"{section}{name}", DROPPED.get(key(name), "a study has no such field; leave it out"))

    def add_range(self, name: str, kind: str, bounds: tuple[Any, Any], step: Any = None, *, log: bool, rounded: bool) -> None:
        """Add a parameter with a range. `rounded`: the tool draws multiples of the step; otherwise its steps begin at the lower bound."""
        place, (low, high, step) = f"{self.section}{name}", map(number, (*bounds, step))
        if not is_number(low, high) or not (step is None or is_number(step)):
            self.lose(place, "a range needs numbers as bounds; write low and high")
            return
        if step is not None and log:
            if step != 1 or kind != "int":
                self.change(place, "a logarithmic range has no step here; it is left out")
            step = None
        if step is not None and step > 0 and (high - low > MAX_STEPS * step or max(abs(low), abs(high)) > MAX_INTEGER * step):
            self.change(place, "a range has at most 1,000,000 steps here; it is drawn without a step")
            step = None
        if rounded and step is not None and step > 0:
            first, last = (float(f"{part * step:.12g}") for part in (math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)))
            if not (math.isclose(first, low, abs_tol=1e-12) and math.isclose(last, high, abs_tol=1e-12)) and first <= last:
                self.change(place, f"the range ends at multiples of its step, at {first:g} and {last:g}")
                low, high = first, last
        entries = {"type": kind, "low": low, "high": high, "log": log or None, "step": step}
        self.params[name] = {part: each for part, each in entries.items() if each is not None}

    def lose_normal(self, name: str, mean: Any, deviation: Any, log: bool) -> None:
        """Name a parameter with a normal distribution, and the range that holds most of its values."""
        low, high = (mean - 2 * deviation, mean + 2 * deviation) if is_number(mean, deviation) else (0, 1)
        if log:
            low, high = _exp(low), _exp(high)
        line = f"{{type: float, low: {low:g}, high: {high:g}{', log: true' if log else ''}}}"
        self.lose(f"{self.section}{name}", f"there is no normal distribution; write a range, such as {line} for two standard deviations")


def shown(text: object) -> str:
    """The text in one line, without control characters, shortened."""
    line = " ".join(clean(str(text)).split())
    return line if len(line) <= LONGEST_SHOWN else line[:LONGEST_SHOWN] + "…"


def refuse(place: Path, code: str, message: str) -> NoReturn:
    raise InvalidInput([Fault(place, code, message)])


def read(document: Any) -> ForeignSearch:
    """The search that a parsed YAML or JSON file defines. Raises InvalidInput."""
    document = _without_endless(document)
    if not isinstance(document, dict):
        refuse((), "not_a_mapping", "this is no definition of a search; give a W&B sweep, a Ray Tune space or a Katib experiment")
    if "search_space" in document:
        refuse(("search_space",), "study", "this is a study file already; create it with `thaw study create`")
    if document.get("kind") == "Experiment" or isinstance(document.get("spec"), dict):
        return _katib(document)
    if isinstance(document.get("parameters"), list):
        return _katib({"spec": document})
    if "parameters" in document:
        return _wandb(document)
    return _ray(document)


def _without_endless(value: Any) -> Any:
    """The value with texts for numbers that are not finite or above 2^53, so that only entries that need a number are lost."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case int() if abs(value) > MAX_INTEGER:
            return f"an integer above {MAX_INTEGER}"
        case dict():
            return {name: _without_endless(each) for name, each in value.items()}
        case list():
            return [_without_endless(each) for each in value]
        case _:
            return value


def _mapping(value: Any, *place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(place, "not_a_mapping", "a mapping of fields is expected here; correct it")
    return dict(value)


def is_number(*values: Any) -> bool:
    """Whether all values are finite numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) and -1e308 < value < 1e308 for value in values)


def _exp(exponent: float) -> float:
    return float(f"{math.exp(max(-700.0, min(700.0, exponent))):.6g}")


# W&B: https://docs.wandb.ai/models/sweeps/sweep-config-keys

NATURAL = frozenset({"log_uniform", "q_log_uniform", "inv_log_uniform"})  # their bounds are natural logarithms
RANGES: Mapping[str, tuple[str, bool]] = {  # distribution -> type, log
    "int_uniform": ("int", False),
    "uniform": ("float", False),
    "q_uniform": ("float", False),
    **dict.fromkeys(("log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"), ("float", True)),
    **dict.fromkeys(("q_log_uniform", "q_log_uniform_values"), ("float", True)),
}


def _wandb(document: Mapping[str, Any]) -> ForeignSearch:
    found, rest = ForeignSearch("a W&B sweep", "parameters."), dict(document)
    found.name = rest.pop("name", None)
    metric = _mapping(rest.pop("metric", None), "metric")
    found.metric = metric.pop("name", None)
    found.direction = metric.pop("goal", None if found.metric is None else "minimize")
    if metric.pop("target", None) is not None:
        found.lose("metric.target", NO_GOAL)
    found.lose_rest(metric, "metric.")
    _sampler(found, "method", rest.pop("method", None), {})
    if found.sampler == {"name": "tpe"}:
        found.change("method", "bayes is a Gaussian process in W&B and tpe here; `sampler: {name: gp}` is nearer to it")
    for name, value in _once(found, _nested(_mapping(rest.pop("parameters", None), "parameters"), "parameters")):
        _wandb_parameter(found, name, value)
    if (early := rest.pop("early_terminate", None)) is not None:
        _wandb_pruner(found, _mapping(early, "early_terminate"))
    if (cap := rest.pop("run_cap", None)) is not None:
        found.budget["trials"] = cap
    found.lose_rest(rest)
    return found


def _nested(params: Mapping[str, Any], inside: str | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters with dotted names. Those of a group are in its entry `inside`, or in the group itself."""
    for name, value in params.items():
        group = value.get(inside) if isinstance(value, dict) and inside else value
        if isinstance(group, dict) and not (inside is None and _is_ray(group)):
            yield from _nested(group, inside, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _once(found: ForeignSearch, params: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The parameters, each name once."""
    seen = set[str]()
    for name, value in params:
        if name in seen:
            found.lose(f"{found.section}{name}", "a parameter of this name is there already; leave one of them out")
        else:
            seen.add(name)
            yield name, value


def _wandb_parameter(found: ForeignSearch, name: str, value: Any) -> None:
    place = f"{found.section}{name}"
    if not isinstance(value, dict):
        found.lose(place, "a parameter of a sweep is a mapping with value, values, or min and max; write it so")
        return
    low, high, step = (number(value.get(part)) for part in ("min", "max", "q"))
    likely = "int_uniform" if isinstance(low, int) and isinstance(high, int) else "uniform"
    kind = value.get("distribution", "categorical" if "values" in value else "constant" if "value" in value else likely)
    used = {"distribution"}
    if isinstance(kind, str) and kind.endswith("normal"):
        used |= {"mu", "sigma", "q"}
        found.lose_normal(name, number(value.get("mu", 0)), number(value.get("sigma", 1)), "log" in kind)
    elif kind == "constant":
        used |= {"value"}
        found.params[name] = {"value": value.get("value")}
    elif kind in ("categorical", "categorical_w_probabilities"):
        used |= {"values", "probabilities"}
        if value.get("probabilities") is not None:
            found.change(f"{place}.probabilities", "all choices are drawn with the same probability at first")
        found.params[name] = {"choices": value.get("values")}
    elif isinstance(kind, str) and kind in RANGES:
        used |= {"min", "max", *(["q"] if kind.startswith("q_") else [])}
        if kind in NATURAL and is_number(low, high):
            low, high = (_exp(-high), _exp(-low)) if kind == "inv_log_uniform" else (_exp(low), _exp(high))
            found.change(place, f"the bounds of {kind} are natural logarithms, so that the range is {low:g} to {high:g}")
        form, log = RANGES[kind]
        found.add_range(name, form, (low, high), (1 if step is None else step) if "q" in used else None, log=log, rounded=True)
    else:
        found.lose(place, f"there is no distribution {shown(kind)}; write type, low and high")
    found.lose_rest({part: each for part, each in value.items() if part not in used}, f"{place}.")


def _wandb_pruner(found: ForeignSearch, early: dict[str, Any]) -> None:
    eta, most, brackets = (number(early.pop(part, None)) for part in ("eta", "max_iter", "s"))
    if "min_iter" not in early and is_number(most, brackets) and 0 < most < MAX_TRIALS and 0 <= brackets < 100:
        early["min_iter"] = max(1, int(most / (eta if is_number(eta) and eta > 1 else 3) ** brackets))
        found.change("early_terminate", f"the first bracket, of max_iter and s, is min_steps: {early['min_iter']}")
    elif most is not None or brackets is not None:
        found.lose("early_terminate.max_iter and s", "`epochs` sets the longest trial; write it under fixed")
    if early.pop("strict", None):
        found.lose("early_terminate.strict", "pruning has no strict mode; lower min_steps to prune earlier")
    _pruner(found, "early_terminate", early.pop("type", None), early | ({} if eta is None else {"eta": eta}))


def _sampler(found: ForeignSearch, place: str, name: Any, options: Mapping[str, Any]) -> None:
    if name is None:
        return
    word = re.sub(r"(search|sampler|generator)\Z", "", key(name)).removeprefix("multivariate").removeprefix("tune")
    ours = SAMPLERS.get(word, {"basicvariant": "random", "gridsearch": "grid"}.get(word))
    if ours is None:
        found.lose(place, f"there is no sampler {shown(name)}; tpe, the default, is used{_without(options)}")
        return
    found.sampler = {"name": ours}
    for option, value in options.items():
        found.sampler[{"randomstate": "seed", "randomseed": "seed"}.get(key(option), option)] = number(value)


def _without(options: Mapping[str, Any]) -> str:
    return f", without the options {shown(', '.join(options))}" if options else ""


def _pruner(found: ForeignSearch, place: str, name: Any, options: Mapping[str, Any]) -> None:
    ours = PRUNERS.get(key(name), PRUNERS.get(re.sub(r"(scheduler|pruner)\Z", "", key(name))))
    if name is None or ours is None:
        names = ", ".join(sorted(set(PRUNERS.values())))
        found.lose(place, f"there is no pruner {shown(name)}; write one of {names}{_without(options)}")
        return
    found.pruner = {"name": ours}
    fields = PRUNER | ({"startstep": "n_warmup_steps", "graceperiod": "n_warmup_steps"} if ours == "median" else {})
    for option, value in options.items():
        if key(option) in DROPPED:
            found.lose(f"{place}.{option}", f"{DROPPED[key(option)]}; write it under fixed")
        else:
            found.pruner[spelled(fields, option)] = whole(number(value))
    if ours not in ("none", "threshold"):
        found.change(place, "steps of the pruner are epochs here")


# Katib: https://www.kubeflow.org/docs/components/katib/user-guides/hp-tuning/configure-experiment


def _katib(document: Mapping[str, Any]) -> ForeignSearch:
    found, outside = ForeignSearch("a Katib experiment", "spec.parameters."), dict(document)
    metadata, rest = _mapping(outside.pop("metadata", None), "metadata"), _mapping(outside.pop("spec", None), "spec")
    found.name = metadata.pop("name", metadata.pop("generateName", None))
    outside.pop("apiVersion", None), outside.pop("kind", None)
    found.lose_rest(metadata, "metadata.")
    found.lose_rest(outside)
    _katib_objective(found, _mapping(rest.pop("objective", None), "spec", "objective"))
    name, options = _katib_algorithm(rest.pop("algorithm", None), "algorithm")
    if key(name) == "hyperband":
        _sampler(found, "spec.algorithm", "random", {})
        _pruner(found, "spec.algorithm", name, options)
    else:
        _sampler(found, "spec.algorithm", name, options)
    if (early := rest.pop("earlyStopping", None)) is not None:
        _pruner(found, "spec.earlyStopping", *_katib_algorithm(early, "earlyStopping"))
    for theirs, ours in (("maxTrialCount", "trials"), ("parallelTrialCount", "parallel")):
        if (count := rest.pop(theirs, None)) is not None:
            found.budget[ours] = count
    if (failures := rest.pop("maxFailedTrialCount", None)) is not None:
        found.limits["failures"] = failures or 1
        found.change("spec.maxFailedTrialCount", "limits.failures counts failed trials in a row")
    if "nasConfig" in rest:
        refuse(("spec", "nasConfig"), "architecture_search", "a study varies no architectures; choose a model and give spec.parameters")
    params = rest.pop("parameters", None)
    if not isinstance(params, list):
        refuse(("spec", "parameters"), "not_a_list", "a list of parameters is expected here; correct it")
    listed = [_mapping(each, "spec", "parameters", str(index)) for index, each in enumerate(params)]
    for name, each in _once(found, [(str(each.pop("name", index)), each) for index, each in enumerate(listed)]):
        _katib_parameter(found, name, each)
    found.lose_rest(rest, "spec.")
    return found


def _katib_objective(found: ForeignSearch, objective: dict[str, Any]) -> None:
    found.metric, found.direction = objective.pop("objectiveMetricName", None), objective.pop("type", None)
    if objective.pop("goal", None) is not None:
        found.lose("spec.objective.goal", NO_GOAL)
    if objective.pop("additionalMetricNames", None):
        found.lose("spec.objective.additionalMetricNames", "every trial has all metrics of its task; leave it out")
    found.lose_rest(objective, "spec.objective.")


def _katib_algorithm(value: Any, section: str) -> tuple[Any, dict[str, Any]]:
    algorithm = _mapping(value, "spec", section)
    settings = algorithm.get("algorithmSettings") or []
    if not isinstance(settings, list):
        refuse(("spec", section, "algorithmSettings"), "not_a_list", "a list of names and values is expected here; correct it")
    options = dict[str, Any]()
    for index, one in enumerate(settings):
        if not isinstance(one, dict) or not one.keys() >= {"name", "value"}:
            refuse(("spec", section, "algorithmSettings", index), "not_a_setting", "a setting has a name and a value; correct it")
        options[str(one["name"])] = one["value"]
    return algorithm.get("algorithmName"), options


def _katib_parameter(found: ForeignSearch, name: str, rest: dict[str, Any]) -> None:
    kind, space = rest.pop("parameterType", None), _mapping(rest.pop("feasibleSpace", None), "spec", "parameters", name, "feasibleSpace")
    if kind in ("categorical", "discrete"):
        choices = space.pop("list", None)
        numeric = kind == "discrete" and isinstance(choices, list)
        found.params[name] = {"choices": [number(choice) for choice in choices] if numeric else choices}
    elif kind in ("double", "int"):
        low, high, step = (space.pop(part, None) for part in ("min", "max", "step"))
        scale = key(space.pop("distribution", "uniform"))
        if scale.endswith("normal"):
            found.change(f"{found.section}{name}", "the range is drawn uniformly, since there is no normal distribution")
        form = "int" if kind == "int" else "float"
        found.add_range(name, form, (low, high), step, log=scale.startswith("log"), rounded=False)
    else:
        found.lose(f"{found.section}{name}", f"there is no parameterType {shown(kind)}; write type, low and high")
    found.lose_rest({**rest, **space}, f"{found.section}{name}.")


# Ray Tune: https://docs.ray.io/en/latest/tune/api/search_space.html

CALLS: Mapping[str, tuple[str, bool, int]] = {  # name -> type, log, how much below `upper` the range ends
    "uniform": ("float", False, 0),
    "quniform": ("float", False, 0),
    "loguniform": ("float", True, 0),
    "qloguniform": ("float", True, 0),
    "randint": ("int", False, 1),
    "qrandint": ("int", False, 0),
    "lograndint": ("int", True, 1),
    "qlograndint": ("int", True, 0),
}
LISTS = ("choice", "gridsearch")
SETTINGS = ("metric", "mode", "num_samples", "time_budget_s", "max_concurrent_trials", "search_alg", "tune_config", "run_config")
FIELDS = frozenset({"low", "high", "step", "choices", "mean", "sd", "base"})  # a range is the same with every base of its logarithm
NORMAL = ("randn", "qrandn", "normal")
KIND = ("space", "type", "distribution")  # entries with the name of a distribution, where a parameter is a mapping
SPACES = ("param_space", "config", "space", "search_space")


def _is_ray(value: Any) -> bool:
    """Whether the value defines a parameter: a call as text, `{grid_search: [...]}`, or a mapping with the name of a distribution."""
    if isinstance(value, str):
        return re.match(r"\s*[\w.]+\(", value) is not None
    return isinstance(value, dict) and ("grid_search" in value or any(key(value.get(part)) in (*CALLS, *LISTS) for part in KIND))


def _ray(document: Mapping[str, Any]) -> ForeignSearch:
    found, rest = ForeignSearch("a Ray Tune space"), dict(document)
    if len(rest) == 1 and isinstance(only := next(iter(rest.values())), dict) and any(isinstance(only.get(part), dict) for part in SPACES):
        found.name, rest = next(iter(rest)), dict(only)  # an experiment by its name
    section = next((part for part in SPACES if isinstance(rest.get(part), dict)), None)
    space = {name: value for name, value in rest.items() if name not in SETTINGS} if section is None else rest.pop(section)
    rest = {name: value for name, value in rest.items() if section is not None or name in SETTINGS}
    leaves = list(_nested(space, None))
    if not any(_is_ray(value) for _, value in leaves):
        refuse((), "unknown_format", "this is neither a W&B sweep, a Ray Tune space nor a Katib experiment; see docs/travel.md")
    found.section, grids = f"{section}." if section else "", list[int]()
    for name, value in _once(found, leaves):
        _ray_parameter(found, name, value, grids)
    for part in ("tune_config", "run_config"):
        rest = {**_mapping(rest.pop(part, None), part), **rest}
    found.name = rest.pop("name", found.name)
    found.metric, found.direction = rest.pop("metric", None), rest.pop("mode", None)
    varied = [each for each in found.params.values() if "value" not in each]
    search, options = _ray_algorithm(rest.pop("search_alg", None))
    if search is not None:
        _sampler(found, "search_alg", search, options)
    else:
        found.sampler = {"name": "grid" if grids and len(grids) == len(varied) else "random"}
    _ray_budget(found, rest, min(math.prod(grids[:100]), MAX_TRIALS))
    scheduler, options = _ray_algorithm(rest.pop("scheduler", None))
    if scheduler is not None:
        found.metric, found.direction = found.metric or options.pop("metric", None), found.direction or options.pop("mode", None)
        _pruner(found, "scheduler", scheduler, options)
    if (stop := rest.pop("stop", None)) is not None:
        found.lose("stop", f"a trial ends after its epochs; write fixed: {{epochs: ...}} (there: {shown(json.dumps(stop))})")
    found.lose_rest(rest)
    return found


def _ray_parameter(found: ForeignSearch, name: str, value: Any, grids: list[int]) -> None:
    place = f"{found.section}{name}"
    if not _is_ray(value):
        found.params[name] = {"value": value}
        return
    if isinstance(value, str):
        if (call := call_of(value)) is None:
            found.lose(place, NO_EVALUATION)
            return
        kind = key(call[0])
        order = ("choices",) if kind in LISTS else ("mean", "sd") if kind in NORMAL else ("low", "high", "step")
        fields = dict(zip(order, call[1], strict=False)) | {PARAMETER.get(key(each), each): one for each, one in call[2].items()}
    else:
        kind = next((word for part in KIND if (word := key(value.get(part))) in (*CALLS, *LISTS)), "gridsearch")
        fields = {PARAMETER.get(key(each), each): one for each, one in value.items() if each not in KIND}
    found.lose_rest({each: one for each, one in fields.items() if each not in FIELDS}, f"{place}.")
    if kind in LISTS:
        choices = fields.get("choices")
        choices = list(choices) if isinstance(choices, tuple | list) else None
        found.params[name] = {"choices": choices}
        grids += [len(choices)] if kind == "gridsearch" and choices else []
    elif kind in CALLS:
        if kind in ("randint", "lograndint") and "high" not in fields:  # randint(10) is randint(0, 10)
            fields = {"low": 0, "high": fields.get("low")}
        form, log, below = CALLS[kind]
        high, step = number(fields.get("high")), fields.get("step") if kind.startswith("q") else None  # else a third argument is a base
        found.add_range(name, form, (fields.get("low"), high - below if is_number(high) else high), step, log=log, rounded=True)
    elif kind in NORMAL:
        found.lose_normal(name, fields.get("mean", 0), fields.get("sd", 1), log=False)
    else:
        found.lose(place, f"there is no distribution {shown(kind)}; write type, low and high")


def _ray_budget(found: ForeignSearch, rest: dict[str, Any], combinations: int) -> None:
    samples, seconds = rest.pop("num_samples", None), rest.pop("time_budget_s", None)
    if is_number(samples) and samples > 0:
        if found.sampler != {"name": "grid"}:
            found.budget["trials"] = samples * combinations
        elif samples > 1:
            found.change("num_samples", "each combination of the grid is trained once; `confirm` trains the best again with other seeds")
        if combinations > 1 and found.sampler != {"name": "grid"}:
            found.change("num_samples", f"the sampler draws from the grids, {samples} times their {combinations} combinations")
    if seconds is not None:
        found.budget["hours"] = float(f"{seconds / 3600:.6g}") if is_number(seconds) else seconds
    if parallel := rest.pop("max_concurrent_trials", None):
        found.budget["parallel"] = parallel


def _ray_algorithm(value: Any) -> tuple[Any, dict[str, Any]]:
    """Name and options of a scheduler or search algorithm: a name, a call as text, or a mapping."""
    if isinstance(value, dict):
        options = dict(value)
        return next((options.pop(part) for part in ("type", "name", "algorithm") if part in options), "without name"), options
    if isinstance(value, str) and (call := call_of(value)) is not None:
        return call[0], {f"argument {index}": one for index, one in enumerate(call[1], 1)} | call[2]
    return value, {}
