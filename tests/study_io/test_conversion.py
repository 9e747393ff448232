"""Searches of other tools as study files: what is converted, what is named, and what is left to the user."""

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import Fault, Faulty
from search_spaces.documents import from_yaml
from service.domain.errors import InvalidInput
from service.domain.parsing import examine, parse_study
from service.domain.text import clean
from service.search.optuna_import import read_database, search_of
from service.study_io.conversion import Converted, convert
from service.study_io.other_tools import read
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of, specs

WANDB = """
program: train.py
project: vision
name: flowers-sweep
description: first look
method: bayes
metric: {name: val/accuracy, goal: maximize, target: 0.99}
parameters:
  learning_rate: {distribution: log_uniform, min: -11.5, max: -2.3}
  batch_size: {distribution: q_uniform, min: 10, max: 128, q: 16}
  epochs: {value: 10}
  optimizer:
    parameters:
      name: {values: [Adam, SGD, lion]}
      weight_decay: {distribution: inv_log_uniform_values, min: 1e-6, max: 1e-2}
  momentum: {min: 0.1, max: 0.9}
  label_smoothing: {distribution: log_normal, mu: -3, sigma: 0.5}
  image_size: {min: 32, max: 64}
  hidden_size: {values: [128, 256], probabilities: [0.5, 0.5]}
  fc_layer_size: {values: [128, 256]}
  architecture: {value: resnet18}
early_terminate: {type: hyperband, max_iter: 27, s: 2, strict: true}
command: ["${env}", python, "${program}", "${args}"]
run_cap: 50
"""
RAY = """
param_space:
  lr: tune.loguniform(1e-4, 1e-1)
  batch_size: {grid_search: [16, 32]}
  momentum: tune.quniform(0.1, 0.9, 0.1)
  image_size: tune.randint(32, 65)
  dropout: tune.uniform(lower=0, upper=0.5)
  wd: "tune.sample_from(lambda spec: 3)"
  beta1: tune.randn(0.9, 0.01)
  optimizer: tune.choice(["sgd", "adam"])
  model: {hidden: "tune.choice([1, 2])"}
  epochs: 5
tune_config:
  metric: mean_accuracy
  mode: max
  num_samples: 10
  scheduler: ASHAScheduler(max_t=10, grace_period=2, reduction_factor=3)
  search_alg: OptunaSearch
  time_budget_s: 7200
  max_concurrent_trials: 2
  reuse_actors: true
run_config: {name: exp, stop: {training_iteration: 10}}
"""
KATIB = """
---
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {namespace: kubeflow, name: random}
spec:
  objective: {type: minimize, goal: 0.001, objectiveMetricName: loss, additionalMetricNames: [accuracy]}
  algorithm:
    algorithmName: tpe
    algorithmSettings: [{name: n_startup_trials, value: "5"}, {name: random_state, value: "10"}, {name: gamma, value: "0.2"}]
  parallelTrialCount: 3
  maxTrialCount: 12
  maxFailedTrialCount: 4
  earlyStopping: {algorithmName: medianstop, algorithmSettings: [{name: min_trials_required, value: "3"}, {name: start_step, value: "5"}]}
  parameters:
    - {name: lr, parameterType: double, feasibleSpace: {min: "0.0001", max: "0.05", distribution: logUniform}}
    - {name: batch_size, parameterType: discrete, feasibleSpace: {list: ["16", "32"]}}
    - {name: momentum, parameterType: double, feasibleSpace: {min: "0.55", max: "0.9", step: "0.1"}}
    - {name: epochs, parameterType: int, feasibleSpace: {min: "2", max: "5"}}
    - {name: num-layers, parameterType: int, feasibleSpace: {min: "2", max: "5"}}
    - {name: optimizer, parameterType: categorical, feasibleSpace: {list: [sgd, adam, ftrl]}}
  trialTemplate: {primaryContainerName: training-container, trialSpec: {kind: Job}}
"""


def converted(text: str, task: str = "image_classification") -> Converted:
    return convert(read(from_yaml(text)), task, "file")


def completed(document: dict[str, Any], places: tuple[Any, ...]) -> dict[str, Any]:
    """The document with values at its marked places, as a user completes it."""
    task = spec_of(document["task"])
    objective = document["objective"]
    metrics = [name for name, one in task.metrics.items() if objective["direction"] in (None, one.direction)]
    values = {
        ("data", "path"): task.stand_ins["data"]["path"],
        ("model", "name"): task.stand_ins["model"]["name"],
        ("objective", "metric"): metrics[0],
        ("objective", "direction"): task.metrics[metrics[0]].direction,
        ("budget",): {"trials": 40},
        ("search_space",): {"warmup_fraction": {"type": "float", "low": 0.0, "high": 0.1}},
    }
    for place in places:
        *above, last = place
        (document[above[0]] if above else document)[last] = values[place]
    return document


def checked(found: Converted) -> dict[str, Any]:
    """The document. It has faults at exactly the marked places, and none once they are completed."""
    document = from_yaml(found.text)
    assert {fault.path for fault in examine(document).faults} == set(found.places)
    assert found.text.count(" # COMPLETE: ") == len(found.places)
    parse_study(completed(from_yaml(found.text), found.places))
    return dict(document)


def names(notes: tuple[str, ...]) -> set[str]:
    return {note.partition(":")[0] for note in notes}


def test_a_wandb_sweep() -> None:
    found = converted(WANDB)
    document = checked(found)
    assert found.places == (("data", "path"),)
    assert document["search_space"] == {
        "lr": {"type": "float", "low": 1.01301e-05, "high": 0.100259, "log": True},
        "batch_size": {"type": "int", "low": 16, "high": 128, "step": 16},
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "weight_decay": {"type": "float", "low": 1e-6, "high": 0.01, "log": True},
        "momentum": {"type": "float", "low": 0.1, "high": 0.9},
        "image_size": {"type": "int", "low": 32, "high": 64},
    }
    assert document["fixed"] == {"epochs": 10}
    assert document["model"] == {"name": "resnet18"}
    assert document["objective"] == {"metric": "accuracy", "direction": "maximize"}
    assert document["budget"] == {"trials": 50}
    assert document["pruner"] == {"name": "hyperband", "min_steps": 3}
    assert (document["name"], document["sampler"]) == ("flowers-sweep", {"name": "tpe"})
    assert names(found.lost) == {
        "program", "project", "description", "command", "metric.target", "early_terminate.strict", "parameters.label_smoothing",
        "parameters.hidden_size", "parameters.fc_layer_size", "parameters.optimizer.name choice lion",
    }  # fmt: skip
    assert "{type: float, low: 0.0183156, high: 0.135335, log: true}" in " ".join(found.lost)
    assert {"method", "parameters.learning_rate", "parameters.batch_size", "objective", "parameters.architecture"} <= names(found.changed)
    assert all(f"#   {note}" in found.text.splitlines() for note in (*found.lost, *found.changed))


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("{min: 0.1, max: 0.2}", {"type": "float", "low": 0.1, "high": 0.2}),
        ("{min: 0.0, max: 0.5, distribution: uniform}", {"type": "float", "low": 0.0, "high": 0.5}),
        ("{min: 0, max: 0.5, distribution: q_uniform, q: 0.1}", {"type": "float", "low": 0, "high": 0.5, "step": 0.1}),
        ("{min: 0.001, max: 0.1, distribution: log_uniform_values}", {"type": "float", "low": 0.001, "high": 0.1, "log": True}),
        ("{min: -5, max: -1, distribution: log_uniform}", {"type": "float", "low": 0.00673795, "high": 0.367879, "log": True}),
        ("{min: 1, max: 5, distribution: inv_log_uniform}", {"type": "float", "low": 0.00673795, "high": 0.367879, "log": True}),
        ("{min: 0.01, max: 0.1, distribution: inv_log_uniform_values}", {"type": "float", "low": 0.01, "high": 0.1, "log": True}),
        ("{min: 0.01, max: 0.1, q: 0.01, distribution: q_log_uniform_values}", {"type": "float", "low": 0.01, "high": 0.1, "log": True}),
        ("{min: -4, max: -1, q: 0.01, distribution: q_log_uniform}", {"type": "float", "low": 0.0183156, "high": 0.367879, "log": True}),
        ("{values: [0.1, 0.2]}", {"type": "categorical", "choices": [0.1, 0.2]}),
        ("{values: [0.1, 0.2], distribution: categorical}", {"type": "categorical", "choices": [0.1, 0.2]}),
    ],
)
def test_the_distributions_of_a_sweep(written: str, ours: dict[str, Any]) -> None:
    found = converted(f"method: random\nparameters: {{dropout: {written}}}")
    assert checked(found)["search_space"] == {"dropout": ours}
    assert found.lost == ()


@pytest.mark.parametrize("kind", ["normal", "q_normal", "log_normal", "q_log_normal", "beta"])
def test_a_distribution_without_equivalent_is_named(kind: str) -> None:
    found = converted(f"method: random\nparameters: {{dropout: {{distribution: {kind}, mu: 0.2, sigma: 0.1}}}}")
    assert ("search_space",) in found.places
    assert "parameters.dropout" in names(found.lost)
    checked(found)


def test_a_sweep_without_metric_gives_no_direction() -> None:
    assert converted("method: random\nparameters: {lr: {min: 0.1, max: 0.2}}").places == (
        ("data", "path"), ("model", "name"), ("objective", "metric"), ("objective", "direction"), ("budget",),
    )  # fmt: skip
    found = converted("method: random\nmetric: {name: mine}\nparameters: {lr: {min: 0.1, max: 0.2}}")  # W&B minimises by default
    assert checked(found)["objective"] == {"metric": None, "direction": "minimize"}


def test_a_grid_gets_the_number_of_its_combinations() -> None:
    found = converted("method: grid\nparameters: {lr: {values: [0.1, 0.2]}, epochs: {min: 1, max: 3}}")
    document = checked(found)
    assert (document["sampler"], document["budget"]) == ({"name": "grid"}, {"trials": 6})
    endless = converted("method: grid\nrun_cap: 9\nparameters: {lr: {min: 0.1, max: 0.2}}")
    assert checked(endless)["sampler"] == {"name": "random"}
    assert "sampler" in names(endless.changed)


def test_a_ray_space() -> None:
    found = converted(RAY)
    document = checked(found)
    assert document["search_space"] == {
        "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32]},
        "momentum": {"type": "float", "low": 0.1, "high": 0.9, "step": 0.1},
        "image_size": {"type": "int", "low": 32, "high": 64},
        "dropout": {"type": "float", "low": 0, "high": 0.5},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    }
    assert (document["name"], document["fixed"]) == ("exp", {"epochs": 5})
    assert document["budget"] == {"trials": 20, "hours": 2.0, "parallel": 2}
    assert document["pruner"] == {"name": "asha", "min_steps": 2, "reduction_factor": 3}
    assert (document["objective"], document["sampler"]) == ({"metric": "accuracy", "direction": "maximize"}, {"name": "tpe"})
    assert names(found.lost) == {
        "param_space.wd", "param_space.beta1", "param_space.model.hidden", "scheduler.max_t", "stop", "reuse_actors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "low", "high", "step"),
    [("randint(2, 9)", 2, 8, None), ("randint(9)", 1, 8, None), ("qrandint(2, 8, 2)", 2, 8, 2), ("lograndint(2, 9)", 2, 8, None)],
)
def test_the_upper_bound_of_ray_is_left_out_except_with_a_step(written: str, low: int, high: int, step: int | None) -> None:
    found = converted(f"epochs: tune.{written}\nlr: tune.uniform(0.1, 0.2)")
    space = checked(found)["search_space"]
    if written == "randint(9)":  # from 0, which is no number of epochs
        assert "epochs" not in space and "epochs" in names(found.lost)
        return
    assert (space["epochs"]["low"], space["epochs"]["high"], space["epochs"].get("step")) == (low, high, step)


def test_nothing_beside_the_known_entries_is_left_out_in_silence() -> None:
    sweep = converted(
        "method: magic\nearly_terminate: {type: hyperband, min_iter: 2, s: 3}\n"
        "parameters: {lr: {min: 0.1, max: 0.2, q: 0.1, note: x}, dropout: {values: [0.1], max: 3}}"
    )
    assert {"parameters.lr.q", "parameters.lr.note", "parameters.dropout.max", "method", "early_terminate.max_iter and s"} <= names(
        sweep.lost
    )
    ray = converted(
        "lr: {type: uniform, low: 0.1, high: 0.2, note: x}\nmetric: accuracy\nmode: max\nnum_samples: 3\nsearch_alg: AxSearch(5, seed=2)"
    )
    assert (checked(ray)["budget"], ray.places) == ({"trials": 3}, (("data", "path"), ("model", "name")))
    assert names(ray.lost) == {"lr.note", "search_alg"}
    assert "without the options argument 1, seed" in " ".join(ray.lost)
    katib = converted("spec: {parameters: [{name: lr, parameterType: double, feasibleSpace: {min: '0.1', max: '0.2', list: [1]}}]}")
    assert names(katib.lost) == {"spec.parameters.lr.list"}


def test_ray_grids_alone_are_a_grid() -> None:
    found = converted("my-experiment:\n  run: PPO\n  config: {lr: {grid_search: [0.1, 0.2]}, bs: {grid_search: [8, 16, 32]}}")
    document = checked(found)
    assert (document["name"], document["sampler"], document["budget"]) == ("my-experiment", {"name": "grid"}, {"trials": 6})
    assert names(found.lost) == {"run"}


def test_a_katib_experiment() -> None:
    found = converted(KATIB)
    document = checked(found)
    assert document["search_space"] == {
        "lr": {"type": "float", "low": 1e-4, "high": 0.05, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32]},
        "momentum": {"type": "float", "low": 0.55, "high": 0.9, "step": 0.1},
        "epochs": {"type": "int", "low": 2, "high": 5},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    }
    assert document["objective"] == {"metric": "loss", "direction": "minimize"}
    assert document["sampler"] == {"name": "tpe", "n_startup_trials": 5, "seed": 10}
    assert document["pruner"] == {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 5}
    assert (document["budget"], document["limits"]) == ({"trials": 12, "parallel": 3}, {"failures": 4})
    assert names(found.lost) == {
        "metadata.namespace", "spec.objective.goal", "spec.objective.additionalMetricNames", "spec.trialTemplate", "sampler.gamma",
        "spec.parameters.num-layers", "spec.parameters.optimizer choice ftrl",
    }  # fmt: skip


def test_an_optuna_study(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(0)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'theirs.db'}", study_name="theirs", direction="minimize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("optimizer", ["Adam", "SGD"]) == "SGD":
            trial.suggest_float("momentum", 0.1, 0.9)
        trial.suggest_int("n_heads", 1, 3)
        trial.suggest_int("batch_size", 8, 64, step=8)
        return trial.suggest_float("learning_rate", 1e-4 if trial.number else 1e-5, 1e-1, log=True)

    study.optimize(objective, n_trials=8)
    found = convert(search_of(read_database(tmp_path / "theirs.db")), "text_classification", "file")
    document = checked(found)
    assert document["search_space"] == {
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.1, "high": 0.9},
        "batch_size": {"type": "int", "low": 8, "high": 64, "step": 8},
        "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    }
    assert (document["name"], document["objective"]["direction"]) == ("theirs", "minimize")
    assert set(found.places) == {("data", "path"), ("model", "name"), ("objective", "metric"), ("budget",)}
    assert names(found.lost) == {"sampler and pruner", "8 trials", "n_heads"}
    assert {"momentum", "learning_rate"} <= names(found.changed)


@pytest.mark.parametrize("task", sorted(name for name, spec in specs().items() if not isinstance(spec, ExternalRunner)))
@pytest.mark.parametrize("text", [WANDB, RAY, KATIB])
def test_every_task_accepts_what_is_converted(text: str, task: str) -> None:
    checked(converted(text, task))


def test_names_of_a_script_are_not_converted() -> None:
    with pytest.raises(InvalidInput, match="keep their names"):
        converted(WANDB, "script")


NUMBERS = st.one_of(
    st.integers(-5, 600), st.sampled_from([0.0, 1e-5, 1e-3, 0.1, 0.5, 0.9, 1.0, 2.5, 1e300, -1e300, 1e-320, "0.01", True, None])
)
NAMES = st.sampled_from(
    ["lr", "learning_rate", "bs", "epochs", "optim", "optimizer", "momentum", "dropout", "wd", "seed", "fp16", "model", "dataset", "lora_r",
     "schedule", "image_size", "max_length", "compile", "units", "a b\n: \u2028c #", "lr\x1b[2J"]
)  # fmt: skip
VALUES = st.one_of(
    NUMBERS,
    st.sampled_from(["adam", "SGD", "lion", "cosine", "no", "on", "1e-3", "é\u2028", "resnet18", "x: [y", "two\nlines", "\x07", []]),
)
KINDS = [
    "uniform",
    "q_uniform",
    "log_uniform",
    "log_uniform_values",
    "q_log_uniform_values",
    "inv_log_uniform",
    "int_uniform",
    "normal",
    "odd",
]
SWEEP_PARAMETERS = st.one_of(
    st.fixed_dictionaries({"value": VALUES}),
    st.fixed_dictionaries({"values": st.lists(VALUES, max_size=4)}, optional={"probabilities": st.just([0.5])}),
    st.fixed_dictionaries({"min": NUMBERS, "max": NUMBERS}, optional={"distribution": st.sampled_from(KINDS), "q": NUMBERS}),
    VALUES,
)
GROUPS = st.fixed_dictionaries({"parameters": st.dictionaries(NAMES, SWEEP_PARAMETERS, max_size=3)})
SWEEPS = st.fixed_dictionaries(
    {"parameters": st.dictionaries(NAMES, st.one_of(SWEEP_PARAMETERS, GROUPS), max_size=6)},
    optional={
        "name": st.sampled_from(["a", "a/b", "0123456789abcdef", " ", "", 5, "e\u200b", "two\nlines", "\x85"]),
        "method": st.sampled_from(["grid", "random", "bayes", "custom", 3]),
        "metric": st.fixed_dictionaries({}, optional={"name": VALUES, "goal": st.sampled_from(["maximize", "minimize", "up", 3])}),
        "run_cap": NUMBERS,
        "early_terminate": st.dictionaries(
            st.sampled_from(["type", "min_iter", "max_iter", "s", "eta", "strict"]), st.one_of(NUMBERS, st.just("hyperband"))
        ),
    },
)
CALLS = st.builds(
    lambda kind, values: f"tune.{kind}({', '.join(map(repr, values))})",
    st.sampled_from(["uniform", "quniform", "loguniform", "randint", "qrandint", "lograndint", "choice", "randn", "odd"]),
    st.lists(st.one_of(NUMBERS, st.lists(VALUES, max_size=3)), max_size=4),
)
GRIDS = st.fixed_dictionaries({"grid_search": st.lists(VALUES, max_size=3)})
SCHEDULERS = st.sampled_from(["asha", "PopulationBasedTraining", "ASHAScheduler(grace_period=0)", 3])
SPACES = st.fixed_dictionaries(
    {"config": st.dictionaries(NAMES, st.one_of(CALLS, VALUES, GRIDS), max_size=6)},
    optional={"num_samples": NUMBERS, "time_budget_s": NUMBERS, "scheduler": SCHEDULERS},
)
KATIB_PARAMETERS = st.fixed_dictionaries(
    {"name": NAMES, "parameterType": st.sampled_from(["double", "int", "categorical", "discrete", "odd"])},
    optional={
        "feasibleSpace": st.fixed_dictionaries(
            {},
            optional={
                "min": NUMBERS,
                "max": NUMBERS,
                "step": NUMBERS,
                "list": st.one_of(VALUES, st.lists(VALUES, max_size=3)),
                "distribution": st.sampled_from(["logUniform", "normal"]),
            },
        )
    },
)
COUNTS = {"maxTrialCount": NUMBERS, "parallelTrialCount": NUMBERS, "maxFailedTrialCount": NUMBERS}
SPECS = st.fixed_dictionaries(
    {"parameters": st.lists(KATIB_PARAMETERS, max_size=6)}, optional={**COUNTS, "algorithm": st.just({"algorithmName": "grid"})}
)
EXPERIMENTS = st.fixed_dictionaries({"spec": SPECS})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(SWEEPS, SPACES, EXPERIMENTS), st.sampled_from(["image_classification", "text_regression"]))
def test_whatever_is_converted_has_faults_at_the_marked_places_only(document: dict[str, Any], task: str) -> None:
    try:
        source = read(document)
    except InvalidInput as error:
        assert all(fault.message for fault in error.faults)
        return
    params = dict(source.params)
    found = convert(source, task, "file")
    result = checked(found)
    kept = {*result["search_space"], *result.get("fixed", {})}
    notes = "\n".join((*found.lost, *found.changed))
    for name in params:  # nothing is left out in silence
        assert name in kept or " ".join(clean(name).split()) in notes


@pytest.mark.parametrize(
    ("text", "pointer", "code"),
    [
        ("a: &a [x]\nb: [*a, *a]", "#", "yaml_alias"),
        ("parameters: !!python/object:os.system {}", "#", "yaml_tag"),
        ("parameters: 5", "#/parameters", "not_a_mapping"),
        ("parameters: {}\nmetric: [accuracy]", "#/metric", "not_a_mapping"),
        ("parameters: {}\nearly_terminate: hyperband", "#/early_terminate", "not_a_mapping"),
        ("spec: {parameters: 5}", "#/spec/parameters", "not_a_list"),
        ("kind: Experiment\nspec: {nasConfig: {operations: []}}", "#/spec/nasConfig", "architecture_search"),
        ("spec: {parameters: [5]}", "#/spec/parameters/0", "not_a_mapping"),
        ("spec: {parameters: [], algorithm: {algorithmSettings: 3}}", "#/spec/algorithm/algorithmSettings", "not_a_list"),
        ("spec: {parameters: [], algorithm: {algorithmSettings: [3]}}", "#/spec/algorithm/algorithmSettings/0", "not_a_setting"),
        ("lr: 0.1", "#", "unknown_format"),
        ("[1, 2]", "#", "not_a_mapping"),
        ("name: mine\nsearch_space: {lr: {type: float, low: 0.1, high: 1}}", "#/search_space", "study"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, pointer: str, code: str) -> None:
    faults = list[Fault]()
    try:
        converted(text)
    except (InvalidInput, Faulty) as refused:
        faults += refused.faults
    assert [(fault.pointer, fault.code) for fault in faults] == [(pointer, code)]


@pytest.mark.parametrize("written", [".nan", ".inf", "-.inf", "1e999", str(10**400), str(2**53 + 1)])
def test_a_number_that_is_not_accepted_loses_its_entry_alone(written: str) -> None:
    """It is in a range, among choices, fixed, and in fields that a study does not have."""
    text = (
        f"metric: {{name: accuracy, goal: maximize, target: {written}}}\ndescription: {{seen: [{written}]}}\n"
        f"parameters: {{lr: {{min: {written}, max: 1}}, weight_decay: {{values: [0.1, {written}]}}, batch_size: {{value: {written}}}, "
        "dropout: {min: 0.0, max: 0.5}}\nearly_terminate: {type: hyperband, eta: " + written + "}\n"
    )
    found = converted(text)
    document = checked(found)
    assert set(document["search_space"]) == {"weight_decay", "dropout"} and "batch_size" not in document.get("fixed", {})
    assert document["search_space"]["weight_decay"]["choices"] == [0.1]
    lost = "\n".join(found.lost)
    for place in ("metric.target", "description", "parameters.lr", "parameters.weight_decay choice", "parameters.batch_size"):
        assert place in lost, lost
    assert "pruner.reduction_factor" in lost


def test_a_hint_can_be_written_where_it_is() -> None:
    for task in specs().keys() - {"script"}:
        section, hints = "", dict[str, str]()
        for line in converted("parameters: {lr: {min: 0.1, max: 1}}", task).text.splitlines():
            section = line.partition(":")[0] if line[:1].isalpha() else section
            if hint := re.search(r"^  (\w+): null  # COMPLETE: such as `(\w+: .+?)`", line):
                assert [*from_yaml(hint[2])] == [hint[1]], line
                hints[section] = hint[1]
        assert hints == {"data": "path", "model": "name"}


@pytest.mark.parametrize(
    "call",
    [
        "tune.uniform(0, __import__('os').system('touch x'))",
        "tune.choice([1] * 10**9)",
        "tune.uniform(" * 200,
        "tune.uniform(1e999, 2)",
        f"tune.uniform(0, {10**400})",
    ],
)
def test_ray_expressions_are_not_evaluated(call: str) -> None:
    found = converted(json.dumps({"config": {"lr": call, "dropout": "tune.uniform(0, 0.5)"}}))
    assert list(checked(found)["search_space"]) == ["dropout"]
    assert names(found.lost) == {"config.lr"}


def test_names_cannot_leave_their_comment() -> None:
    sweep = {
        "method": "random",
        "parameters": {"x\n# y\nbudget: {trials: 9}": {"value": 1}, "lr": {"value": "a\nbudget: {trials: 9}"}},
        "run_cap": 5,
    }
    sweep |= {"name": "x\nbudget: {trials: 9}", "description": "two\nlines"}
    found = convert(read(sweep), "image_classification", "file")
    assert checked(found)["budget"] == {"trials": 5}
    assert sum(line.startswith("budget") for line in found.text.splitlines()) == 1


def test_a_file_with_very_many_entries_is_converted_with_the_first_notes() -> None:
    found = convert(
        read({"config": {f"x{index}": {"grid_search": [1, 2, 3]} for index in range(10_000)}, "num_samples": 2}), "image_regression", "many"
    )
    checked(found)
    assert len(found.lost) == 10_000
    assert "#   and 9800 more" in found.text.splitlines()
