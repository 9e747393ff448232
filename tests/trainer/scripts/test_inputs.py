"""What a script is given."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.scripts.inputs import AttemptFolders, InputError, command_of, environment_of, rendered_templates, write_inputs
from trainer.tasks.script.config import ScriptConfig

PARAMS = {"lr": 1e-05, "optimizer.name": "adam w", "nesterov": True, "bias": False, "none": None}


@pytest.fixture
def folders(tmp_path: Path) -> AttemptFolders:
    for name in ("out", "checkpoint"):
        (tmp_path / name).mkdir()
    return AttemptFolders(tmp_path / "out", tmp_path / "checkpoint")


def config(tmp_path: Path, *command: str, **fields: Any) -> ScriptConfig:
    values: dict[str, Any] = {"command": command or ("x",), "workdir": str(tmp_path), "metric": "score", "params": PARAMS, "trial": 7}
    return ScriptConfig(**values | fields)


@pytest.mark.parametrize(
    ("macro", "arguments"),
    [
        ("${args}", ["--lr=1e-05", "--optimizer.name=adam w", "--nesterov=True", "--bias=False", "--none=None"]),
        ("${args_no_hyphens}", ["lr=1e-05", "optimizer.name=adam w", "nesterov=True", "bias=False", "none=None"]),
        ("${args_no_boolean_flags}", ["--lr=1e-05", "--optimizer.name=adam w", "--nesterov", "--none=None"]),
        ("${args_json}", [json.dumps(PARAMS)]),
        ("--config=${args_json_file}", ["--config=/out/params.json"]),
        ("${envvar:THAW_TRIAL}-${envvar:HOME}", ["7-/home/me"]),
        ("${env}", ["/usr/bin/env"]),
        ("${interpreter}", [sys.executable]),
        ("${program}", ["train.py"]),
        ("$HOME", ["$HOME"]),
    ],
)
def test_macros_are_those_of_sweeps(macro: str, arguments: list[str], tmp_path: Path) -> None:
    environment = {"THAW_PARAMS": "/out/params.json", "THAW_TRIAL": "7", "HOME": "/home/me"}
    assert command_of(config(tmp_path, "run", macro, program="train.py"), environment) == ["run", *arguments]


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, folders: AttemptFolders) -> None:
    with pytest.raises(InputError, match=r"the variable DATA of \$\{envvar:DATA\} is not set on this worker"):
        command_of(config(tmp_path, "run", "${envvar:DATA}"), {})
    with pytest.raises(InputError, match="environment: the variable DATA is not set on this worker"):
        environment_of(config(tmp_path, environment=["DATA"]), folders, {})


def test_the_environment(tmp_path: Path, folders: AttemptFolders) -> None:
    inherited = {
        "PATH": "/bin", "THAW_TOKEN": "secret", "THAW_HOME": "/home", "PGPASSWORD": "x", "DATA": "/data",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    }  # fmt: skip
    given = environment_of(config(tmp_path, environment={"DATA": None, "MODE": "fast"}, seed=5, phase="confirm"), folders, inherited)
    out = str(folders.out)
    assert given == {
        "PYTHONUNBUFFERED": "1", "PATH": "/bin", "DATA": "/data", "MODE": "fast", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "THAW_PARAMS": f"{out}/params.json", "THAW_TRIAL": "7", "THAW_SEED": "5", "THAW_PHASE": "confirm", "THAW_OUT": out,
        "THAW_CHECKPOINT": str(folders.checkpoint), "THAW_RESUMED": "0", "SM_MODEL_DIR": f"{out}/model", "SM_NUM_GPUS": "2",
        "SM_HPS": json.dumps(PARAMS), "SM_HP_LR": "1e-05", "SM_HP_OPTIMIZER_NAME": "adam w", "SM_HP_NESTEROV": "true",
        "SM_HP_BIAS": "false", "SM_HP_NONE": "null",
    }  # fmt: skip
    (folders.checkpoint / "last.pt").touch()
    again = environment_of(config(tmp_path), folders, {**inherited, "CUDA_VISIBLE_DEVICES": ""})
    assert (again["THAW_RESUMED"], again["SM_NUM_GPUS"]) == ("1", "0")


def test_the_files(tmp_path: Path, folders: AttemptFolders) -> None:
    (tmp_path / "base.yaml.in").write_text("lr: {{lr}}\nout: '{{thaw.out}}/model'\nmomentum: {{momentum}}\nseed: {{thaw.seed}}\n")
    given = config(tmp_path, templates={"base.yaml.in": "conf/run.yaml"}, unset=["momentum"])
    write_inputs(given, folders)
    assert json.loads((folders.out / "params.json").read_text()) == PARAMS
    assert (folders.out / "conf" / "run.yaml").read_text() == f"lr: 1.0e-05\nout: '{folders.out}/model'\nmomentum: null\nseed: 0\n"
    assert (folders.out / "model").is_dir()
    assert rendered_templates(given)["conf/run.yaml"].startswith("lr: 1.0e-05\nout: '/out/model'")  # without an attempt, as for a check
