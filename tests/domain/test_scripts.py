"""Studies of scripts: what a document may say, and the configs that its trials get."""

from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import ProgramStudy, StudySpec
from service.domain.study_schema import document_schema
from trainer.configuration import RunConfig, resolve_paths
from trainer.tasks.script.config import ScriptConfig, ScriptInfo, UnfitFiles, info_of

STUDY: dict[str, Any] = {
    "name": "mine",
    "task": "script",
    "command": ["python", "train.py", "${args}"],
    "workdir": "/work",
    "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1}, "opt.name": {"type": "categorical", "choices": ["adam", "sgd"]}},
    "objective": {"metric": "val/loss", "direction": "minimize"},
    "budget": {"trials": 4},
}


def parsed(**changes: Any) -> ProgramStudy:
    spec = parse_study({**STUDY, **changes})
    assert isinstance(spec, ProgramStudy)
    return spec


def test_names_of_parameters_and_metrics_are_free() -> None:
    spec = parsed(fixed={"batch-size".replace("-", "_"): 8, "frozen_layers": "all"})
    config = spec.config_for({"lr": 0.5, "opt.name": "sgd"}, 3)
    assert config.params == {"lr": 0.5, "opt.name": "sgd", "batch_size": 8, "frozen_layers": "all"}
    assert (config.metric, config.trial, config.phase, config.seed) == ("val/loss", 3, "search", spec.seed_of(3))
    assert (spec.measure.direction, spec.measure.holds(-5)) == ("minimize", True)


def test_a_spec_and_its_config_survive_json() -> None:
    spec = parsed(templates=[{"from": "a.yaml", "to": "b.yaml"}], environment=["HOME"], limits={"minutes": 3, "memory_gb": 2})
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    config = spec.config_for({"lr": 0.5, "opt.name": "sgd"}, 0)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert (config.templates, config.environment, config.limits.memory_gb) == ({"a.yaml": "b.yaml"}, {"HOME": None}, 2)


def test_runs_of_a_confirmation_share_the_seed_of_their_round() -> None:
    spec = parsed()
    configs = [spec.config_for({"lr": lr, "opt.name": "sgd"}, number, round=2) for number, lr in ((7, 0.5), (8, 0.6))]
    assert {(config.seed, config.phase) for config in configs} == {(spec.seeds_of(2)["seed"], "confirm")}
    assert configs[0].seed != spec.seed_of(7)


def test_a_parameter_whose_condition_does_not_hold_is_unset() -> None:
    space = {**STUDY["search_space"], "momentum": {"type": "float", "low": 0, "high": 1, "when": {"opt.name": ["sgd"]}}}
    spec = parsed(search_space=space)
    assert spec.config_for({"lr": 0.5, "opt.name": "adam"}, 0).unset == ("momentum",)
    assert spec.check_config().params.keys() == space.keys() and spec.check_config().unset == ()  # for the check of templates


def test_the_range_of_the_objective_bounds_its_values() -> None:
    measure = parsed(objective={**STUDY["objective"], "range": [0, 1]}).measure
    assert (measure.low, measure.high, measure.holds(1.5)) == (0, 1, False)


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"command": "python train.py"}, "#/command", "a list is expected here; write `command: [python"),
        ({"command": ["python", "${arsg}"]}, "#/command", "entry 2 has a macro that does not exist; write one of ${args}"),
        ({"command": ["python", "--x=${args}"]}, "#/command", "write it as an entry of its own"),
        ({"command": ["${args}"]}, "#/command", "after the program"),
        ({"command": ["python", "${envvar:1}"]}, "#/command", "a macro that does not exist"),
        ({"command": ["python", "a\0b"]}, "#/command/1", "control"),
        ({"command": []}, "#/command", "at least 1"),
        ({"command": ["python", "${program}"]}, "#/program", "program: train.py"),
        ({"data": {"path": "/x"}}, "#/data", "there is no such field"),
        ({"preset": "image_head"}, "#/preset", "this task has no presets"),
        ({"fixed": {"a b": 1}}, "#/fixed/a b", "a name starts with a letter"),
        ({"fixed": {"lr": 1}}, "#/fixed/lr", "remove it from one of the two"),
        ({"pruner": {"name": "median"}}, "#/steps", "write the last one, such as steps: 10"),
        ({"confirm": {"top": 1}}, "#/baseline", "write one with a value for each parameter"),
        ({"baseline": {"lr": 0.5}}, "#/baseline/opt.name", "give it a value"),
        ({"objective": {"metric": "a b", "direction": "minimize"}}, "#/objective/metric", "without spaces"),
        ({"objective": {"metric": "epoch", "direction": "minimize"}}, "#/objective/metric", "name another metric"),
        ({"objective": {**STUDY["objective"], "range": [1, 0]}}, "#/objective/range", "the lowest value comes first"),
        ({"metrics": {"file": "a", "tensorboard": "b"}}, "#/metrics", "one source"),
        ({"metrics": {"regex": {"loss": "loss=.*"}}}, "#/metrics/regex/loss", "exactly one group"),
        ({"metrics": {"regex": {"loss": "(("}}}, "#/metrics/regex/loss", "no regular expression"),
        ({"metrics": {"regex": {"loss": "(a{99999999999})"}}}, "#/metrics/regex/loss", "no regular expression"),
        ({"metrics": {"regex": {"loss": "(" * 499 + "a" + ")" * 499}}}, "#/metrics/regex/loss", "no regular expression"),
        ({"files": ["src/**.py"]}, "#/files/0", "whole part of a pattern"),
        ({"templates": {"a.json": "./params.json"}}, "#/templates", "has the parameters"),
        ({"templates": {"a.yaml": "c.yaml", "b.yaml": "c.yaml"}}, "#/templates", "written by another template"),
        ({"templates": [{"from": "../a", "to": "b"}]}, "#/templates/..~1a", "without `..`"),
        ({"templates": [{"from": "a"}]}, "#/templates", "{from: config.yaml.in, to: config.yaml}"),
        ({"files": ["/etc/passwd"]}, "#/files/0", "relative to the folder"),
        ({"environment": {"THAW_SEED": "1"}}, "#/environment/THAW_SEED", "rename it"),
        ({"limits": {"memory_gb": 0}}, "#/limits/memory_gb", "greater than 0"),
        ({"search_space": {"frozen_layers": {"type": "int", "low": 1}}}, "#/search_space/frozen_layers/high", "required"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place_and_the_remedy(changes: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parsed(**changes)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    assert words in caught.value.faults[0].message


def test_a_metric_of_another_task_has_no_range_of_the_study() -> None:
    study = {
        "name": "x", "data": {"path": "/x"}, "model": {"name": "resnet18"}, "budget": {"trials": 1},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1}},
        "objective": {"metric": "accuracy", "direction": "maximize", "range": [0, 1]},
    }  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        parse_study(study)
    assert [fault.pointer for fault in caught.value.faults] == ["#/objective/range"]


def test_a_relative_workdir_is_resolved_from_the_folder_of_the_file() -> None:
    assert resolve_paths({**STUDY, "workdir": "code"}, Path("/home/ann")) == {**STUDY, "workdir": "/home/ann/code"}


def test_the_schema_has_the_fields_of_a_script_and_no_others() -> None:
    fields = document_schema("script")["properties"]
    assert {"command", "workdir", "files", "templates", "metrics", "environment", "steps"} <= fields.keys()
    assert not {"data", "model", "preset"} & fields.keys()


def config(folder: Path, **changes: Any) -> ScriptConfig:
    values = {"command": ("python", "train.py"), "workdir": str(folder), "metric": "loss", "params": {}, **changes}
    return ScriptConfig(**values)


def test_the_digest_covers_named_files_those_of_the_command_and_templates(tmp_path: Path) -> None:
    for name in ("train.py", "lib/a.py", "lib/b.py", "c.yaml", "unused.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    asked = config(tmp_path, files=("lib/*.py",), templates={"c.yaml": "c.yaml"})
    before = info_of(asked)
    assert list(before.files) == ["c.yaml", "lib/a.py", "lib/b.py", "train.py"]
    (tmp_path / "unused.py").write_text("changed")
    assert info_of(asked) == before
    (tmp_path / "lib/b.py").write_text("changed")
    after = info_of(asked)
    assert after.fingerprint != before.fingerprint and before.differences_from(after) == ["the files lib/b.py"]


@pytest.mark.parametrize(
    ("changes", "words"), [({"files": ("lib/*.py",)}, "nothing in"), ({"templates": {"c.yaml": "c.yaml"}}, "there is no file c.yaml")]
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnfitFiles, match=words):
        info_of(config(tmp_path, **changes))


def test_facts_with_another_fingerprint_are_faulty() -> None:
    info = ScriptInfo.of({"a.py": "0" * 64})
    assert list(info.faults()) == [] and [field for field, _, _ in info.model_copy(update={"files": {}}).faults()] == ["fingerprint"]
