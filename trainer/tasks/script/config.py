"""Configuration of a script's run, the facts about its files, and their digests."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainer.configuration import DatasetInfo, Frozen, Part, Resolve, RunConfig, resolve_fields

RUNNER = "trainer.scripts"
"""The module that runs scripts, `python -m trainer.scripts --allow FOLDER ...`, in place of the trainer."""
Value = StrictBool | StrictInt | FiniteFloat | StrictStr | None
"""A parameter's value."""
MOST_FILES = 10_000  # whose digests are taken
LISTED = 5  # names in a sentence
PARAMS = "params.json"
"""The file in THAW_OUT with the parameters."""
CHECKPOINTS = "checkpoint"
"""The folder for a script's own checkpoints, beside the folders of the trial's attempts (`Run.checkpoint_folder`), which it survives."""
REQUEUE_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the run asks to be queued again
STEP_METRICS = ("step", "epoch")
"""Names that give the step of the metrics beside them instead of a metric."""

MACRO = re.compile(r"\$\{([^{}]*)\}")
LIST_MACROS = ("args", "args_no_hyphens", "args_no_boolean_flags")
"""Macros that become several arguments, so that each is a whole entry of the command."""
TEXT_MACROS = ("args_json", "args_json_file", "program", "interpreter", "env")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}\Z")
METRIC = re.compile(r"[^\s=\x00-\x1f\x7f]{1,64}\Z")
RESERVED = ("THAW_", "SM_HP", "SM_MODEL_DIR", "SM_NUM_GPUS")


def _inside(text: str) -> str:
    """Refuse a path that is not below the folder it is relative to."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text or not path.parts:
        raise ValueError("this is a path relative to the folder, without `..`; correct it")
    return text


def _glob(text: str) -> str:
    """Refuse a pattern that `Path.glob` refuses."""
    if any("**" in part and part != "**" for part in PurePosixPath(text).parts):
        raise ValueError("`**` is a whole part of a pattern, as in src/**/*.py; correct it")
    return text


def _variable(name: str) -> str:
    if not VARIABLE.match(name) or name.startswith(RESERVED):
        raise ValueError("a variable has letters, digits and _, and does not begin with THAW_ or SM_HP, which each trial sets; rename it")
    return name


def metric_fault(name: str) -> str | None:
    """Why this cannot be the name of a metric; None if it can."""
    if not METRIC.match(name):
        return "a metric has 1 to 64 characters without spaces and `=`; rename it"
    return f"{name} gives the step of the metrics beside it; name another metric" if name in STEP_METRICS else None


def _source(name: str) -> str:
    if name not in STEP_METRICS and (reason := metric_fault(name)) is not None:
        raise ValueError(reason)
    return name


def _templates(value: Any) -> Any:
    """Accept a list of {from, to} beside a mapping."""
    if not isinstance(value, list | tuple):
        return value
    if any(not isinstance(one, Mapping) or one.keys() != {"from", "to"} for one in value):
        raise ValueError("a list of templates has entries such as {from: config.yaml.in, to: config.yaml}; write these two fields")
    if len({str(one["from"]) for one in value}) < len(value):
        raise ValueError("a template is listed twice; remove one of them")
    return {one["from"]: one["to"] for one in value}


def _variables(value: Any) -> Any:
    """Accept a list of names, whose values are those of the worker's environment."""
    return dict.fromkeys(value) if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value) else value


def _pattern(text: str) -> str:
    try:
        found = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"this is no regular expression of Python ({error}); correct it") from None
    if found.groups != 1:
        raise ValueError("the expression needs exactly one group, which is the number, such as `loss: ([-+.0-9eE]+)`; add it")
    return text


Argument = Annotated[str, Field(min_length=1, max_length=4096)]
InnerPath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_inside)]
Variable = Annotated[str, AfterValidator(_variable)]
MetricName = Annotated[str, AfterValidator(_source)]


class MetricSource(Frozen):
    """How the metrics of a script are read, besides by `thawline.report`; by default as `name=value` on its standard output."""

    regex: Mapping[MetricName, Annotated[str, Field(max_length=1_000), AfterValidator(_pattern)]] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="regular expressions of Python for lines of the output, by metric; the one group is the number. `step` or `epoch` "
        "gives the step",
    )
    file: InnerPath | None = Field(
        default=None, description="a file of JSON lines that the script appends to, relative to THAW_OUT, such as metrics.jsonl"
    )
    tensorboard: InnerPath | None = Field(
        default=None, description="a folder of TensorBoard event files, relative to THAW_OUT; their tags are the metrics"
    )

    @model_validator(mode="after")
    def _it_is_one(self) -> Self:
        if sum(source is not None for source in (self.regex, self.file, self.tensorboard)) > 1:
            raise ValueError("metrics are read from one source: regex, file or tensorboard; remove the others")
        return self


class ProcessLimits(Frozen):
    """Limits of a script's processes, for each attempt. `limits.minutes` of a study limits their time."""

    memory_gb: FiniteFloat | None = Field(
        default=None, gt=0, le=100_000, description="memory of all processes together in GB (10^9 bytes); more is out_of_memory"
    )
    output_mb: FiniteFloat = Field(
        default=256.0, gt=0, le=1_000_000, description="output in MB (10^6 bytes) that is read; more is script_error"
    )
    disk_gb: FiniteFloat | None = Field(
        default=None, gt=0, le=1_000_000, description="size in GB of the attempt's folder and the checkpoints; more is script_error"
    )


class Program(Frozen):
    """The fields of a script that are the same for all trials of a study."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1_000)] = Field(
        description="program and arguments, started without a shell in `workdir`. ${args} becomes --name=value for each parameter; also "
        "${args_no_hyphens}, ${args_no_boolean_flags}, ${args_json}, ${args_json_file}, ${envvar:NAME}, ${program}, ${interpreter}, ${env}"
    )
    program: Argument | None = Field(default=None, validate_default=True, description="what ${program} is in the command")
    workdir: str = Field(min_length=1, max_length=4096, description="folder in which the command is started")
    files: Annotated[tuple[Annotated[InnerPath, AfterValidator(_glob)], ...], Field(max_length=1_000)] = Field(
        default=(),
        description="files on which results depend, as paths or patterns such as src/**/*.py relative to workdir, besides those that "
        "the command and the templates name; a trial fails if one has changed since the study's check",
    )
    templates: Annotated[Mapping[InnerPath, InnerPath], Field(max_length=100), BeforeValidator(_templates)] = Field(
        default_factory=dict,
        description="files in workdir with {{parameter}} in them, each with its path in THAW_OUT once the values are filled in; a mapping, "
        "or a list of {from, to}",
    )
    metrics: MetricSource = Field(default=MetricSource(), description="how metrics are read")
    environment: Annotated[Mapping[Variable, Annotated[str, Field(max_length=4096)] | None], BeforeValidator(_variables)] = Field(
        default_factory=dict,
        max_length=200,
        description="variables for the script; without a value, and in a list of names, the worker's own value",
    )
    steps: int | None = Field(
        default=None, ge=1, le=1_000_000, description="number of the last step that a script reports; pruners need it"
    )

    @field_validator("command")
    @classmethod
    def _its_macros_are_known(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        refuse_unknown_macros(command)
        return command

    @field_validator("templates")
    @classmethod
    def _each_has_a_file_of_its_own(cls, templates: Mapping[str, str]) -> Mapping[str, str]:
        targets = [PurePosixPath(target) for target in templates.values()]
        if taken := [target for number, target in enumerate(targets) if target == PurePosixPath(PARAMS) or target in targets[:number]]:
            raise ValueError(f"{taken[0]} is written by another template, or has the parameters; choose another path for this one")
        return templates

    @field_validator("program")
    @classmethod
    def _it_is_given_if_used(cls, program: str | None, info: ValidationInfo) -> str | None:
        if program is None and any("${program}" in argument for argument in info.data.get("command", ())):
            raise ValueError("the command has ${program}; write what it is, such as program: train.py")
        return program


Phase = Literal["search", "confirm"]


class ScriptConfig(RunConfig, Program):
    """The complete configuration of one run of a script."""

    task: Literal["script"] = "script"
    seed: Annotated[int, Field(ge=0, le=2**53)] = Field(default=0, description="THAW_SEED of the script")
    limits: ProcessLimits = ProcessLimits()
    metric: MetricName = Field(description="name of the objective")
    params: Mapping[str, Value] = Field(description="value of each parameter of the search space and of `fixed` that applies")
    unset: tuple[str, ...] = Field(default=(), description="parameters of the study whose condition does not hold; null in templates")
    trial: int = Field(default=0, ge=0, description="number of the trial")
    phase: Phase = "search"

    @classmethod
    def resolved(cls, document: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        return resolve_fields(document, {"workdir": bool}, resolve)

    @property
    def last_step(self) -> int:
        return self.steps or 1

    def with_seed(self, seed: int) -> Self:
        """The config of another run, as those of a confirmation."""
        return self.model_copy(update={"seed": seed, "phase": "confirm"})

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.workdir,)


def refuse_unknown_macros(command: Sequence[str]) -> None:
    """Raises ValueError for a macro that cannot be expanded."""
    known = ", ".join(f"${{{name}}}" for name in (*LIST_MACROS, *TEXT_MACROS, "envvar:NAME"))
    for place, argument in enumerate(command):
        for name in MACRO.findall(argument):
            if name in LIST_MACROS and (argument != f"${{{name}}}" or place == 0):
                raise ValueError(f"${{{name}}} becomes several arguments; write it as an entry of its own, after the program")
            variable = name.removeprefix("envvar:")
            if name not in (*LIST_MACROS, *TEXT_MACROS) and (variable == name or not VARIABLE.match(variable)):
                raise ValueError(f"entry {place + 1} has a macro that does not exist; write one of {known}")


class ScriptInfo(DatasetInfo):
    """The files on which the runs of a script depend, by the study's check."""

    example: ClassVar[str] = "file"

    task: Literal["script"] = "script"
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 over the paths and SHA-256s of the files")
    split: Literal[""] = ""
    weights_sha256: None = None
    files: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        default_factory=dict, max_length=MOST_FILES, description="SHA-256 of each file, by its path relative to workdir"
    )

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Self:
        """The facts for these digests."""
        return cls(files=dict(sorted(files.items())), fingerprint=fingerprint_of(files))

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def in_words(self) -> str:
        return f"a script with {len(self.files):,} file{'' if len(self.files) == 1 else 's'}"

    @property
    def checked(self) -> Mapping[str, Any]:
        return {"files": len(self.files)}

    def unrecorded(self, part: Part) -> Mapping[str, str]:
        return {}

    def faults(self) -> Iterator[tuple[str, str, str]]:
        if self.fingerprint != fingerprint_of(self.files):
            yield "fingerprint", "wrong_fingerprint", "this is not the digest of the files"

    def differences(self, now: "ScriptInfo") -> list[str]:
        """The files that differ, are missing, or are new, sorted."""
        return sorted(name for name in self.files.keys() | now.files.keys() if self.files.get(name) != now.files.get(name))

    def differences_from(self, other: DatasetInfo) -> list[str]:
        """The same as one phrase."""
        changed = self.differences(other) if isinstance(other, ScriptInfo) else sorted(self.files)
        more = f" and {len(changed) - LISTED} more" if len(changed) > LISTED else ""
        return [f"the files {', '.join(changed[:LISTED])}{more}"] if changed else []


def fingerprint_of(files: Mapping[str, str]) -> str:
    """SHA-256 over paths and digests."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


class UnfitFiles(Exception):
    """A file of a script cannot be used. The message states the reason and the remedy."""


def info_of(config: ScriptConfig) -> ScriptInfo:
    """The digests of the files in `files`, of the templates, and of those that the command names. Raises UnfitFiles, OSError."""
    folder, found = Path(config.workdir), dict[str, str]()
    for path in _listed(config, folder):
        name = path.relative_to(folder).as_posix()
        if name not in found:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        if len(found) > MOST_FILES:
            raise UnfitFiles(f"files names more than {MOST_FILES:,} files; write patterns that match fewer")
    return ScriptInfo.of(found)


def _listed(config: ScriptConfig, folder: Path) -> Iterator[Path]:
    for pattern in config.files:
        matching = [path for path in folder.glob(pattern) if path.is_file()]
        if not matching:
            raise UnfitFiles(f"files: nothing in {folder} matches {pattern}; correct the path, or remove it")
        yield from matching
    for source in config.templates:
        if not (folder / source).is_file():
            raise UnfitFiles(f"templates: there is no file {source} in {folder}; correct the path")
        yield folder / source
    for argument in filter(None, (*config.command, config.program)):
        relative = PurePosixPath(argument)
        if not relative.is_absolute() and ".." not in relative.parts and (folder / argument).is_file():
            yield folder / argument
