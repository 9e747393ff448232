"""Whole documents as users of other tools write them: one answer holds every line that makes a document that is accepted."""

import copy
import re
from typing import Any

import pytest

from search_spaces import Fault
from search_spaces.documents import from_yaml
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import StudySpec
from tests.narrowed import training

LINE = re.compile(r"`(\w+: [^`]+)`(?: under (\w+))?")

WANDB = """
name: digits
program: train.py
project: vision
method: bayes
metric: {name: val_accuracy, goal: maximize}
dataset: /data/digits
model: resnet18
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
  batch_size: {values: [16, 32, 64]}
  epochs: {value: 5}
  optimizer: {values: [Adam, SGD]}
  wd: {distribution: q_uniform, min: 0, max: 0.1, q: 0.01}
  num_workers: {value: 4}
early_terminate: {type: hyperband, min_iter: 3, eta: 3, s: 2}
run_cap: 50
"""
OPTUNA = """
study_name: digits
direction: maximize
n_trials: 50
timeout: 5400
sampler: TPESampler
pruner: MedianPruner
data: {path: /data/digits, val_split: 20}
model: {name: resnet18}
search_space:
  lr: "trial.suggest_float('lr', 1e-5, 1e-1, log=True)"
  bs: [16, 32]
  momentum: {low: 0.5, high: 0.9, when: {optimizer: SGD}}
  optimizer: {type: categorical, choices: [SGD, Adam]}
  dropout_rate: {type: uniform, low: 0, high: 0.5}
fixed: {num_epochs: 10}
"""
RAY = """
name: digits
data_dir: /data/digits
model_name: ResNet18
config:
  lr: tune.loguniform(1e-4, 1e-1)
  batch_size: tune.choice([16, 32, 64])
  image_size: tune.randint(32, 65)
  epochs: tune.qrandint(2, 8, 2)
num_samples: 10
metric: mean_accuracy
mode: max
scheduler: asha
resources_per_trial: {gpu: 1}
"""
KATIB = """
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: digits, namespace: kubeflow}
data: {path: /data/digits}
model: {name: resnet18}
spec:
  objective: {type: maximize, goal: 0.99, objectiveMetricName: accuracy}
  algorithm: {algorithmName: random}
  parallelTrialCount: 3
  maxTrialCount: 12
  maxFailedTrialCount: 3
  parameters:
    - name: lr
      parameterType: double
      feasibleSpace: {min: "0.01", max: "0.05"}
    - {name: epochs, parameterType: int, feasibleSpace: {min: "2", max: "8"}}
    - {name: optimizer, parameterType: categorical, feasibleSpace: {list: [sgd, adam]}}
"""
SAGEMAKER = """
name: digits
data: /data/digits
model: {name: resnet18}
Strategy: Bayesian
HyperParameterTuningJobObjective: {Type: Maximize, MetricName: accuracy}
ResourceLimits: {MaxNumberOfTrainingJobs: 20, MaxParallelTrainingJobs: 2}
StaticHyperParameters: {epochs: "5"}
ParameterRanges:
  ContinuousParameterRanges:
    - {Name: learning_rate, MinValue: "0.0001", MaxValue: "0.1", ScalingType: Logarithmic}
  IntegerParameterRanges:
    - {Name: batch_size, MinValue: "16", MaxValue: "64"}
  CategoricalParameterRanges:
    - {Name: optimizer, Values: [sgd, adamw]}
"""
HUGGING_FACE = """
name: digits
train_data: /data/digits
model: {model_name_or_path: resnet18, pretrained: true}
hyperparameters:
  learning_rate: {min: 1e-5, max: 1e-3, log: true}
  per_device_train_batch_size: [16, 32]
num_train_epochs: 3
weightDecay: 0.01
optim: adamw_torch
warmup_ratio: 0.1
bf16: true
direction: min
metric_for_best_model: eval_loss
count: 8
max_concurrent_trials: 2
random_state: 7
"""
DOCUMENTS = {"wandb": WANDB, "optuna": OPTUNA, "ray": RAY, "katib": KATIB, "sagemaker": SAGEMAKER, "hugging face": HUGGING_FACE}


def faults_of(document: object) -> tuple[Fault, ...]:
    with pytest.raises(InvalidInput) as caught:
        parse_study(document)
    return caught.value.faults


def applied(document: dict[str, Any], faults: tuple[Fault, ...]) -> dict[str, Any]:
    """The document as somebody has it who does what the faults say: the named entry goes, and the lines come in its place."""
    changed = copy.deepcopy(document)
    for fault in faults:
        section: Any = changed
        for name in fault.path[:-1]:
            section = section.get(name, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section.pop(fault.path[-1], None)
    lines = [found for fault in faults for found in LINE.findall(fault.message.partition("; write ")[2])]
    for line, section_name in lines:
        section = changed.setdefault(section_name, {}) if section_name else changed
        section.update(from_yaml(line))
    return changed


@pytest.mark.parametrize("tool", DOCUMENTS)
def test_one_answer_holds_every_line_to_write(tool: str) -> None:
    document = from_yaml(DOCUMENTS[tool])
    faults = faults_of(document)
    assert all("; write `" in fault.message or fault.message.endswith("remove it") for fault in faults)
    assert all(fault.path[-1] != "search_space" for fault in faults)
    parse_study(applied(document, faults))


def spec_of(tool: str) -> StudySpec:
    document = from_yaml(DOCUMENTS[tool])
    return parse_study(applied(document, faults_of(document)))


def test_the_lines_hold_the_values_of_a_wandb_sweep() -> None:
    spec = spec_of("wandb")
    lr, decay = (spec.search_space.root[name].model_dump(exclude={"when"}) for name in ("lr", "weight_decay"))
    assert lr == {"type": "float", "low": 1e-5, "high": 0.1, "log": True, "step": None}
    assert decay == {"type": "float", "low": 0.0, "high": 0.1, "log": False, "step": 0.01}
    assert spec.search_space.root["optimizer"].model_dump()["choices"] == ("adam", "sgd")
    assert (spec.budget.trials, spec.fixed, spec.sampler.name) == (50, {"epochs": 5}, "tpe")
    assert spec.pruner.model_dump() == {"name": "hyperband", "min_steps": 3, "reduction_factor": 3}


def test_the_lines_hold_the_values_of_other_tools() -> None:
    optuna, ray, katib, sagemaker = (spec_of(tool) for tool in ("optuna", "ray", "katib", "sagemaker"))
    assert (optuna.budget.trials, optuna.budget.hours, training(optuna).data.validation, optuna.last_step) == (50, 1.5, 0.2, 10)
    assert optuna.search_space.root["momentum"].when == {"optimizer": ("sgd",)}
    assert ray.search_space.root["image_size"].model_dump(include={"low", "high"}) == {"low": 32, "high": 64}  # Ray leaves the bound out
    assert ray.search_space.root["epochs"].model_dump(include={"low", "high", "step"}) == {"low": 2, "high": 8, "step": 2}  # except here
    assert (katib.budget.trials, katib.budget.parallel, katib.limits.failures) == (12, 3, 3)
    assert (sagemaker.fixed, sagemaker.budget.parallel) == ({"epochs": 5}, 2)
    hugging_face = spec_of("hugging face")
    assert hugging_face.objective.model_dump() == {"metric": "loss", "direction": "minimize"}
    assert hugging_face.fixed == {"epochs": 3, "weight_decay": 0.01, "optimizer": "adamw", "warmup_fraction": 0.1, "precision": "bfloat16"}
    assert (hugging_face.sampler.seed, training(hugging_face).model.weights) == (7, "DEFAULT")


BASE: dict[str, Any] = {
    "name": "digits", "data": {"path": "/data/digits"}, "model": {"name": "resnet18"},
    "search_space": {
        "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    },
    "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 10},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "pointer", "line"),
    [
        ({"n_trials": 40, "budget": {"hours": 2}}, "#/n_trials", "`budget: {trials: 40, hours: 2}`"),
        ({"budget": {"max_trials": 40}}, "#/budget/max_trials", "`budget: {trials: 40}`"),
        ({"budget": 40}, "#/budget", "`budget: {trials: 40}`"),
        ({"budget": {"timeout": "90m"}}, "#/budget/timeout", "`budget: {hours: 1.5}`"),
        ({"objective": {"metric": "val_acc", "direction": "max"}}, "#/objective/direction", "`objective: {metric: accuracy, "),
        ({"objective": {"metric": "loss"}}, "#/objective/direction", "`objective: {metric: loss, direction: minimize}`"),
        ({"objective": {"metric": "loss", "mode": "minimise"}}, "#/objective/mode", "`objective: {metric: loss, direction: minimize}`"),
        ({"objectiv": {"metric": "f1"}, "objective": None}, "#/objectiv", "`objective: {metric: f1, direction: maximize}`"),
        ({"sampler": "random"}, "#/sampler", "`sampler: {name: random}`"),
        ({"sampler": {"type": "TPESampler", "random_state": 3}}, "#/sampler/type", "`sampler: {name: tpe, seed: 3}`"),
        ({"pruner": {"type": "median", "min_trials_required": 3}}, "#/pruner/type", "`pruner: {name: median, n_startup_trials: 3}`"),
        ({"early_stopping_patience": 3}, "#/early_stopping_patience", "`pruner: {name: patient, patience: 3}`"),
        ({"epochs": 7}, "#/epochs", "`epochs: 7` under fixed"),
        ({"weight_decay": {"min": 0, "max": 1}}, "#/weight_decay", "`weight_decay: {type: float, low: 0, high: 1}` under search_space"),
        ({"fixed": {"wd": 0.1}}, "#/fixed/wd", "`weight_decay: 0.1` under fixed"),
        ({"fixed": {"schedule": "CosineAnnealingLR"}}, "#/fixed/schedule", "`schedule: cosine` under fixed"),
        ({"baseline": {"learning_rate": 0.01, "optimizer": "sgd"}}, "#/baseline/learning_rate", "`lr: 0.01` under baseline"),
        ({"data": {"path": "/data/digits", "validation": 20}}, "#/data/validation", '`data: {path: "/data/digits", validation: 0.2}`'),
        ({"num_workers": 4}, "#/num_workers", "remove it"),
        ({"search-space": {"lr": [0.1, 0.2]}, "search_space": None}, "#/search-space", "`search_space: {lr: {type: categorical"),
    ],
)  # fmt: skip
def test_a_synonym_is_answered_with_its_line(changes: dict[str, Any], pointer: str, line: str) -> None:
    document = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    faults = {fault.pointer: fault.message for fault in faults_of(document)}
    assert line in faults[pointer]
    parse_study(applied(document, faults_of(document)))


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ({"low": 1, "high": 8}, "{type: float, low: 1, high: 8}"),
        ({"type": "loguniform", "low": 1e-4, "high": 1}, "{type: float, low: 0.0001, high: 1, log: true}"),
        ({"type": "log_uniform", "min": -9.21034, "max": -2.302585}, "{type: float, low: 0.0001, high: 0.1, log: true}"),
        ({"distribution": "log_uniform", "min": 1e-4, "max": 0.1}, "{type: float, low: 0.0001, high: 0.1, log: true}"),
        ({"distribution": "q_log_uniform_values", "min": 1e-4, "max": 0.1, "q": 1e-4}, "{type: float, low: 0.0001, high: 0.1, log: true}"),
        ({"type": "quniform", "min": 0.1, "max": 0.5, "q": 0.1}, "{type: float, low: 0.1, high: 0.5, step: 0.1}"),
        ({"type": "double", "bounds": [0.1, 1]}, "{type: float, low: 0.1, high: 1}"),
        ({"min": 0.1, "max": 1, "type": "float"}, "{type: float, low: 0.1, high: 1}"),
        ({"values": [0.1, 0.2]}, "{type: categorical, choices: [0.1, 0.2]}"),
        ({"type": "choice", "options": [0.1, 0.2]}, "{type: categorical, choices: [0.1, 0.2]}"),
        ([0.1, 0.2], "{type: categorical, choices: [0.1, 0.2]}"),
        ({"low": 1e-5, "high": 1, "when": {"optimizer": "SGD"}, "type": "float"}, "low: 1.0e-05, high: 1, when: {optimizer: [sgd]}}"),
        ({"type": "float", "low": 1e-5, "high": 1, "when": {"optimizer": ["SGD"]}}, "when: {optimizer: [sgd]}}"),
        ("tune.quniform(0.1, 0.5, 0.1)", "{type: float, low: 0.1, high: 0.5, step: 0.1}"),
        ("trial.suggest_loguniform('lr', 1e-4, 0.1)", "{type: float, low: 0.0001, high: 0.1"),
    ],
)  # fmt: skip
def test_a_parameter_in_another_form_is_answered_with_its_line(parameter: object, line: str) -> None:
    document = {**BASE, "search_space": {**BASE["search_space"], "lr": parameter}}
    faults = faults_of(document)
    assert f"`lr: {line}" in faults[0].message or line in faults[0].message
    parse_study(applied(document, faults))


def test_a_whole_number_keeps_its_type() -> None:
    document = {**BASE, "search_space": {"batch_size": {"min": 16, "max": 64, "distribution": "uniform"}}}
    (fault,) = faults_of(document)
    assert fault.message.endswith("write `batch_size: {type: int, low: 16, high: 64}` under search_space")


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    faults = {fault.pointer: fault.message for fault in faults_of({
        **BASE, "model": {"name": "resnet81"}, "sampler": {"name": "tpee"}, "pruner": {"name": "asha", "min_step": 2},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1, "stepp": 0.1}, "momentun": {"type": "float", "low": 0, "high": 1}},
        "limits": {"attempt": 3},
    })}  # fmt: skip
    ends = {
        "#/sampler": "tpe", "#/pruner/min_step": "min_steps", "#/search_space/lr/stepp": "step",
        "#/search_space/momentun": "momentum", "#/limits/attempt": "attempts",
    }  # fmt: skip
    assert {pointer: faults[pointer].rpartition("did you mean ")[2] for pointer in ends} == {one: f"{end}?" for one, end in ends.items()}
    assert "; did you mean resnet18, resnet101 or resnet152? `thaw study schema` and GET /api/v1/models list all " in faults["#/model/name"]


def test_faults_of_every_stage_come_in_one_answer() -> None:
    document = {
        **BASE,
        "name": "..",
        "model": {"name": "resnet18", "weights": "IMAGENET22K"},
        "search_space": {
            "lr": {"type": "float", "low": 1.0, "high": 0.1},
            "momentum": {"type": "float", "low": 0.5, "high": 3.0},
            "epochs": {"type": "int", "low": 1},
            "frozen_layers": {"type": "int", "low": 0, "high": 99},
        },
        "fixed": {"image_size": 4, "speed": 1},
        "sampler": {"name": "grid"},
        "budget": {"trials": 0},
        "colour": "red",
    }
    assert {fault.pointer for fault in faults_of(document)} == {
        "#/name", "#/model/weights", "#/search_space/lr/low", "#/search_space/momentum/high", "#/search_space/epochs/high",
        "#/search_space/frozen_layers/high", "#/fixed/image_size", "#/fixed/speed", "#/budget/trials", "#/colour",
    }  # fmt: skip


def test_a_missing_section_is_answered_with_an_example_that_is_accepted() -> None:
    faults = faults_of({})
    assert {fault.pointer for fault in faults} == {f"#/{name}" for name in ("name", "data", "model", "search_space", "objective", "budget")}
    parse_study(applied({}, faults))


def test_a_text_that_is_no_word_of_ours_is_not_repeated() -> None:
    for changes in ({"model": "secretword"}, {"dataset": "secretword"}, {"parameters": {"secretword": {"values": ["secretword"]}}},
                    {"optimizer": "secretword"}, {"search_space": {"lr": "secretword", "optimizer": ["SGD", "secretword"]}}):  # fmt: skip
        assert not any("secretword" in fault.message for fault in faults_of({**BASE, **changes}))


def test_a_document_of_many_foreign_entries_is_answered_in_bounds() -> None:
    values = {"values": list(range(1_000))}
    faults = faults_of({**BASE, "parameters": {f"p{number}": values for number in range(150)}, **{f"lr_{n}": 1 for n in range(40)}})
    assert sum(len(fault.message) for fault in faults[:100]) < 48_000
