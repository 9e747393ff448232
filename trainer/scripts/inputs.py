"""What a script is given: its command line, its environment, and its config files, from the parameters of its trial."""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer import files
from trainer.scripts import templates
from trainer.tasks.script.config import LIST_MACROS, MACRO, PARAMS, ScriptConfig, Value

ENV = "/usr/bin/env"
MODEL = "model"  # folder in THAW_OUT, as SM_MODEL_DIR
REMOVED = re.compile(r"THAW_|SM_|PGPASSWORD\Z")
"""Variables of the worker that a script does not get: settings and secrets of the service, and what a trial sets."""
RUN_VALUES = ("thaw.seed", "thaw.trial", "thaw.phase", "thaw.out", "thaw.checkpoint")
"""Names beside the parameters that a template may use."""


class InputError(Exception):
    """A script cannot be given its inputs. The message names the field and the remedy."""


@dataclass(frozen=True, slots=True)
class AttemptFolders:
    """The folders of an attempt: `out` is its own, `checkpoint` has what earlier attempts have left there.

    `reported` is a file beside `checkpoint` with the reports.
    """

    out: Path
    checkpoint: Path

    @property
    def reported(self) -> Path:
        return self.checkpoint.with_name(f"{self.checkpoint.name}.jsonl")

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier attempt has left files."""
        return any(self.checkpoint.iterdir())


def template_values(config: ScriptConfig, folders: AttemptFolders | None = None) -> dict[str, Value]:
    """What placeholders stand for: the parameters, null for those that do not apply, and RUN_VALUES. Without folders, example paths."""
    out, checkpoint = ("/out", "/checkpoint") if folders is None else (str(folders.out), str(folders.checkpoint))
    run: tuple[Value, ...] = (config.seed, config.trial, config.phase, out, checkpoint)
    return {**dict(zip(RUN_VALUES, run, strict=True)), **dict.fromkeys(config.unset), **config.params}


def rendered_templates(config: ScriptConfig, folders: AttemptFolders | None = None) -> dict[str, str]:
    """The texts of the rendered templates, by their path in THAW_OUT. Raises TemplateError, OSError."""
    values, rendered = template_values(config, folders), dict[str, str]()
    for source, target in config.templates.items():
        text = files.read_regular(Path(config.workdir) / source, templates.MOST_BYTES)
        try:
            rendered[target] = templates.render(text.decode(), values, source, target)
        except UnicodeDecodeError:
            raise templates.TemplateError(f"{source} is not text in UTF-8; correct its encoding") from None
    return rendered


def write_inputs(config: ScriptConfig, folders: AttemptFolders) -> None:
    """Write params.json and the rendered templates into THAW_OUT. Raises TemplateError, OSError."""
    (folders.out / MODEL).mkdir(parents=True, exist_ok=True)
    (folders.out / PARAMS).write_text(json.dumps(dict(config.params), indent=1) + "\n")
    for target, text in rendered_templates(config, folders).items():
        path = folders.out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def environment_of(config: ScriptConfig, folders: AttemptFolders, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the script. Raises InputError for a variable without a value here."""
    kept = {name: value for name, value in inherited.items() if not REMOVED.match(name)}
    for name, value in config.environment.items():
        if value is None and name not in inherited:
            raise InputError(f"environment: the variable {name} is not set on this worker; set it, or give it a value in the study")
        kept[name] = inherited[name] if value is None else value
    visible = [one for one in inherited.get("CUDA_VISIBLE_DEVICES", inherited.get("HIP_VISIBLE_DEVICES", "")).split(",") if one]
    return {
        "PYTHONUNBUFFERED": "1",  # so that metrics arrive when they are printed
        **kept,
        "THAW_PARAMS": str(folders.out / PARAMS),
        "THAW_TRIAL": str(config.trial),
        "THAW_SEED": str(config.seed),
        "THAW_PHASE": config.phase,
        "THAW_OUT": str(folders.out),
        "THAW_CHECKPOINT": str(folders.checkpoint),
        "THAW_RESUMED": str(int(folders.is_resumed)),
        **sagemaker_variables(config.params),
        "SM_MODEL_DIR": str(folders.out / MODEL),
        "SM_NUM_GPUS": str(len(visible)),
    }


def sagemaker_variables(params: Mapping[str, Value]) -> dict[str, str]:
    """SM_HPS with all parameters as JSON, and SM_HP_NAME with each: strings as they are, other values as JSON.

    A character of a name that a variable cannot have becomes `_`.
    """
    single = {f"SM_HP_{re.sub('[^A-Z0-9_]', '_', name.upper())}": value for name, value in params.items()}
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in single.items()}
    return {"SM_HPS": json.dumps(dict(params)), **written}


def command_of(config: ScriptConfig, environment: Mapping[str, str]) -> list[str]:
    """The command with its macros replaced, which are those of W&B sweeps. Raises InputError.

    `${args}` is one argument `--name=value` for each parameter, `${args_no_hyphens}` is `name=value`; of `${args_no_boolean_flags}` a
    parameter that is true is `--name`, and one that is false is left out. Values are written as Python writes them, as W&B does.
    `${envvar:NAME}` is a variable of the script's environment.
    """
    arguments = list[str]()
    for item in config.command:
        found = MACRO.fullmatch(item)
        if found is not None and found[1] in LIST_MACROS:
            arguments += _arguments(found[1], config.params)
        else:
            arguments.append(MACRO.sub(lambda macro: _text_of(macro[1], config, environment), item))
    if faulty := next((argument for argument in arguments if "\0" in argument), None):
        raise InputError(f"command: an argument with a NUL character cannot be passed: {faulty[:60]!r}")
    return arguments


def _arguments(macro: str, params: Mapping[str, Value]) -> list[str]:
    if macro == "args_no_hyphens":
        return [f"{name}={value}" for name, value in params.items()]
    if macro == "args":
        return [f"--{name}={value}" for name, value in params.items()]
    shown = {name: value for name, value in params.items() if value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in shown.items()]


def _text_of(macro: str, config: ScriptConfig, environment: Mapping[str, str]) -> str:
    if macro.startswith("envvar:"):
        name = macro.removeprefix("envvar:")
        if name not in environment:
            raise InputError(f"command: the variable {name} of ${{{macro}}} is not set on this worker; set it, or add it to environment")
        return environment[name]
    return {
        "args_json": json.dumps(dict(config.params)),
        "args_json_file": environment["THAW_PARAMS"],
        "env": ENV,
        "interpreter": sys.executable,
        "program": config.program or "",
    }[macro]


def find_program(command: str, workdir: Path, environment: Mapping[str, str]) -> None:
    """Raise InputError if the command's program does not exist or cannot be executed."""
    if os.sep in command:
        path = workdir / command
        if not path.exists():
            raise InputError(f"command: there is no {command} in {workdir}; correct the path")
        if not path.is_file() or not os.access(path, os.X_OK):
            raise InputError(f"command: {command} is not an executable file; write the program that runs it first, or make it executable")
        return
    places = environment.get("PATH", os.defpath).split(os.pathsep)
    if not any(os.access(os.path.join(place, command), os.X_OK) for place in places):
        raise InputError(f"command: there is no program {command} on this worker's PATH; install it, or write its whole path")
