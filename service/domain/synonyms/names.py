"""Names of other tools, by the Thawline name that they translate to."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from search_spaces import Path
from service.domain.samplers import Pruner, Sampler
from service.domain.spec import Budget, Confirm, Limits, Objective, TrainingStudy
from trainer.configuration import TrainConfig
from trainer.tasks.base import Metric
from trainer.tasks.capabilities import OtherNames, Spellings
from trainer.tasks.registry import spec_of


def key(name: object) -> str:
    """The name without case and punctuation: `n_trials`, `nTrials` and `n-trials` have the same key."""
    return re.sub("[^a-z0-9]", "", str(name)[:80].lower())


def spelled(table: Mapping[str, str], name: str) -> str:
    """The Thawline spelling of the name; the name itself if the table does not have it."""
    return table.get(key(name), name)


def _table(**spellings: str) -> dict[str, str]:
    """Map the key of each spelling to its field. Each field is also a spelling of itself."""
    return {key(spelling): name for name, listed in spellings.items() for spelling in (name, *listed.split())}


def _keys(spellings: str) -> frozenset[str]:
    return frozenset(map(key, spellings.split()))


HYPERPARAMETERS = _table(
    lr="learning_rate learn_rate base_lr init_lr initial_lr max_lr learningrate_init",
    batch_size="batch bs per_device_train_batch_size train_batch_size mini_batch_size minibatch",
    epochs="epoch num_epochs n_epochs num_train_epochs max_epochs train_epochs nb_epochs",
    weight_decay="wd weightDecay l2 l2_reg l2_regularization l2_penalty",
    optimizer="optim optimiser opt solver",
    momentum="mom sgd_momentum",
    beta1="adam_beta1 beta_1",
    beta2="adam_beta2 beta_2",
    dropout="dropout_rate dropout_prob drop_rate dropout_p",
    schedule="lr_scheduler lr_scheduler_type lr_schedule learning_rate_schedule",
    warmup_fraction="warmup_ratio warmup_pct pct_start warmup_proportion",
    lr_gamma="gamma",
    lr_step_epochs="lr_step_size step_size",
    frozen_layers="freeze freeze_layers n_frozen num_frozen_layers frozen_stages",
    precision="dtype bf16 fp16 amp mixed_precision",
)
"""Hyperparameters of every task."""
BUDGET = _table(
    trials="n_trials num_samples num_trials max_trials maxTrialCount max_trial_count count run_cap max_evals n_calls n_iter "
    "MaxNumberOfTrainingJobs",
    hours="max_hours timeout timeout_seconds time_budget_s time_budget max_time",
    parallel="n_jobs max_concurrent_trials parallelTrialCount parallel_trial_count concurrency MaxParallelTrainingJobs",
)
SECONDS = _keys("timeout timeout_seconds time_budget_s time_budget max_time")
OBJECTIVE = _table(
    metric="metric_name objectiveMetricName objective_metric monitor name MetricName metric_for_best_model",
    direction="directions mode goal type",
)
DATA = _table(
    path="dir data_dir dataset dataset_path data_path train_data train_dir train_path train root folder csv file",
    validation="val val_split validation_split val_size valid_pct val_fraction validation_fraction val_ratio",
    test="test_split test_size test_fraction test_ratio",
    seed="split_seed",
)
MODEL = _table(
    name="model_name model architecture arch backbone network model_name_or_path",
    weights="checkpoint ckpt pretrained_weights weights_path pretrained",
)
NAMED = _table(name="type algorithm algorithm_name method", seed="random_state random_seed")
PRUNER = NAMED | _table(
    min_steps="min_iter min_resource grace_period min_epochs",
    reduction_factor="eta",
    n_startup_trials="min_trials_required min_samples_required",
    n_warmup_steps="start_step warmup_steps",
    wrapped="wrapped_pruner",
)
PARAMETER = _table(
    type="distribution dist parameterType kind",
    low="min MinValue minimum lower lower_bound",
    high="max MaxValue maximum upper upper_bound",
    choices="values options list categories choice grid_search candidates",
    value="const constant",
    step="q quantum",
    log="log_scale scale ScalingType prior",
    when="condition conditions depends_on",
    bounds="range interval",
    inside="feasibleSpace",
    nothing="probabilities",
)
SAMPLERS = _table(
    tpe="TPESampler bayes bayesian bayesopt hyperopt optuna bayesianoptimization bohb",
    random="RandomSampler random_search",
    grid="GridSampler grid_search",
    gp="GPSampler skopt",
    cmaes="CmaEsSampler cma_es",
    qmc="QMCSampler sobol halton",
    nsga2="NSGAIISampler nsgaii",
)
PRUNERS = _table(
    none="NopPruner off no disabled fifo",
    median="MedianPruner medianstop median_stopping MedianStoppingRule",
    percentile="PercentilePruner",
    asha="ASHAScheduler SuccessiveHalvingPruner successive_halving async_hyperband",
    hyperband="HyperbandPruner HyperBandScheduler",
    threshold="ThresholdPruner",
    wilcoxon="WilcoxonPruner",
    patient="PatientPruner early_stopping patience",
)
DIRECTIONS = _table(minimize="min minimise minimizing minimum lower", maximize="max maximise maximizing maximum higher")
WORDS: Mapping[str, Mapping[str, str]] = {
    "optimizer": _table(adamw="adamw_torch adamw_hf adamw_torch_fused", sgd="", adam="", rmsprop=""),
    "schedule": _table(constant="none", cosine="cosine_annealing CosineAnnealingLR", step="StepLR", one_cycle="OneCycleLR onecycle"),
    "precision": _table(auto="", float32="fp32 32", bfloat16="bf16", float16="fp16 half", tf32=""),
}
# type in the document -> (our type, log)
KINDS: Mapping[str, tuple[str, bool]] = {
    **dict.fromkeys(_keys("float double real continuous number uniform float_uniform q_uniform quniform"), ("float", False)),
    **dict.fromkeys(
        _keys("loguniform log_uniform log_float float_log log_uniform_values q_log_uniform_values q_log_uniform qloguniform"),
        ("float", True),
    ),
    **dict.fromkeys(_keys("int integer int_uniform uniform_int randint qrandint"), ("int", False)),
    **dict.fromkeys(_keys("int_log log_int int_loguniform lograndint qlograndint log_int_uniform"), ("int", True)),
    **dict.fromkeys(_keys("categorical choice category ordinal enum discrete grid_search bool constant"), ("categorical", False)),
}
EXPONENTS = _keys("log_uniform q_log_uniform")  # W&B: the bounds are natural logarithms
EXCLUSIVE = _keys("randint lograndint")  # Ray Tune: the upper bound is left out, except with a step

SPACE = _keys("parameters param_space params space searchspace hyperparameters hparams config ParameterRanges")
FIXED = _keys("fixed_parameters constants StaticHyperParameters fixed_params")
NAME = _keys("study_name experiment_name exp_name run_name sweep_name metadata")
SAMPLER = _keys("method algorithm search_alg algorithm_name strategy tuner")
PRUNER_SECTION = _keys("early_terminate early_stopping earlyStopping scheduler pruning")
WRAPPERS = _keys("spec tune_config sweep sweep_config study ResourceLimits HyperParameterTuningJobConfig")
PATIENCE = _keys("early_stopping_patience patience")
NOTHING = "the trainer has no such setting"
DROPPED: Mapping[str, str] = {
    **dict.fromkeys(_keys("num_workers dataloader_num_workers n_workers pin_memory"), "the trainer sets its own number of loading threads"),
    **dict.fromkeys(
        _keys("program command project entity api_version kind trialTemplate namespace storage load_if_exists script_args"),
        "Thawline has its own trainer and its own store",
    ),
    **dict.fromkeys(
        _keys("device gpus gpu resources_per_trial n_gpus accelerator devices"),
        "it follows from the worker's machine (`thaw worker --slots`)",
    ),
    **dict.fromkeys(
        _keys("gradient_accumulation_steps hidden_size num_layers n_layers hidden_units max_steps"),
        NOTHING,
    ),
    **dict.fromkeys(_keys("max_iter max_t max_resource s strict additionalMetricNames metricStrategies"), "`epochs` sets it"),
}
OBJECTIVE_PARTS = _keys(
    "metric metric_for_best_model goal mode direction directions monitor metric_name objective_metric HyperParameterTuningJobObjective"
)
DATA_PARTS = DATA.keys() - _keys("file csv test val validation train root folder dir seed path")  # these are ambiguous outside of `data`
MODEL_PARTS = MODEL.keys() - _keys("name weights")
# Positional arguments of Optuna's and Ray Tune's calls, by the call's name.
CALLS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("uniform", "loguniform", "randint", "lograndint", "float", "int", "loguniformvalues"), ("low", "high")),
    **dict.fromkeys(("quniform", "qloguniform", "qrandint", "qlograndint", "discreteuniform"), ("low", "high", "step")),
    **dict.fromkeys(("choice", "categorical", "gridsearch"), ("choices",)),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Names:
    """The names in studies of one task, with their other spellings."""

    parameters: Mapping[str, FieldInfo]  # hyperparameters
    data_fields: Collection[str]
    model_fields: Collection[str]
    metrics: Mapping[str, Metric]
    models: Collection[str]
    weights: Collection[str]
    hyperparameter_names: Mapping[str, str]
    metric_names: Mapping[str, str]
    data_names: Mapping[str, str]
    words: Mapping[str, Mapping[str, str]]  # by hyperparameter, spellings of its values
    dropped: Mapping[str, str]  # names that studies do not have, with the reason


@cache
def names_of(task: str) -> Names:
    """The names of an installed task. The task's own names take precedence over other tools' names."""
    spec, config = spec_of(task), TrainConfig.of_task(task).model_fields
    spellings = spec.spellings if isinstance(spec, OtherNames) else Spellings()
    parameters = spec.Hyperparameters.model_fields
    return Names(
        parameters=parameters,
        data_fields=_fields(config["data"]),
        model_fields=_fields(config["model"]),
        metrics=spec.metrics,
        models=spec.models(),
        weights={name for model in spec.models() for name in spec.describe(model).weights},
        hyperparameter_names=HYPERPARAMETERS | _table(**spellings.hyperparameters) | {key(name): name for name in parameters},
        metric_names=_table(**spellings.metrics),
        data_names=DATA | _table(**spellings.data),
        words={**WORDS, **{name: _table(**values) for name, values in spellings.words.items()}},
        dropped={**DROPPED, **dict.fromkeys(_keys(spellings.dropped), NOTHING)},
    )


def _fields(section: FieldInfo) -> frozenset[str]:
    model = section.annotation
    return frozenset(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else frozenset()


LONGEST_LINE = 1_000  # characters
LONGEST_PATH = 256
NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?\Z")
PLAIN_PATH = re.compile(r"[\w./~ +@=-]+\Z")
PLAIN_NAME = re.compile(r"[\w. -]{1,128}\Z")


def line(ours: Names, document: Mapping[str, Any], part: Path) -> str:
    """The part in YAML flow style, in backticks, followed by its section unless it is at the top level."""
    value: Any = document
    for name in part:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    text = f"{part[-1]}: {flow(ours, value, str(part[-1]))}"
    where = f" under {part[0]}" if len(part) > 1 else ""
    return f"`{text}`{where}" if len(text) <= LONGEST_LINE else f"`{part[-1]}: ...`{where} (with all of its values)"


def flow(ours: Names, value: Any, name: str = "") -> str:
    """The value in YAML flow style. `name` is its field.

    A text is repeated only if it is a known name or value, a path, or the study's name. Any other text becomes `...`, so that error
    messages do not carry arbitrary input into pages and logs.
    """
    match value:
        case dict():
            return (
                "{"
                + ", ".join(
                    f"{key if key in _known_texts(ours) else '...'}: {flow(ours, item, '' if key == 'name' else str(key))}"
                    for key, item in value.items()
                )
                + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(flow(ours, item, name) for item in value) + "]"
        case float():
            digits = repr(value)  # YAML 1.1 parsers read 1e-05 as text, and 1.0e-05 as a number
            return digits.replace("e", ".0e") if "e" in digits and "." not in digits else digits
        case str():
            return _text(ours, value, name)
        case _:
            return json.dumps(value)


def _text(ours: Names, text: str, name: str) -> str:
    if text in _known_texts(ours):
        return text
    is_path = name in ("path", "weights") and "/" in text and len(text) <= LONGEST_PATH and PLAIN_PATH.match(text)
    if is_path or (name == "name" and PLAIN_NAME.match(text)):
        return json.dumps(text, ensure_ascii=False)
    return "..."


@cache
def _known_texts(ours: Names) -> frozenset[str]:
    """All texts that a quoted line may repeat: names of fields, and their known values."""
    models: Iterable[Any] = (TrainingStudy, Budget, Limits, Objective, Confirm)
    names = {name for model in models for name in model.model_fields} | {*ours.data_fields, *ours.model_fields, *ours.parameters}
    parameter = {"type", "low", "high", "log", "step", "choices", "when", "float", "int", "categorical"}
    values = {value for spellings in ours.words.values() for value in spellings.values()}
    own = {*ours.weights, *ours.metrics, *ours.models}
    known = names | parameter | values | own | options() | {"DEFAULT", "minimize", "maximize", "server", "workers"}
    return frozenset(known | set(SAMPLERS.values()) | set(PRUNERS.values()))


@cache
def options() -> frozenset[str]:
    """The options of all samplers and pruners."""
    unions = [get_args(get_args(union)[0]) for union in (Sampler, Pruner)]
    return frozenset(name for union in unions for member in union for name in member.model_fields)
