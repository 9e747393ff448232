"""The exported configuration: all that production training needs, and where it came from."""

from collections.abc import Mapping
from typing import Literal

import yaml
from pydantic import Field, FiniteFloat, ValidationError

from search_spaces import Fault, Scalar
from search_spaces.documents import from_json, from_yaml, plain
from search_spaces.faults import Faulty
from search_spaces.parameters import Frozen
from service.domain.errors import InvalidInput, NoResult
from service.domain.parsing import faults_of
from service.domain.records import Study, Trial, depths_in
from service.domain.spec import Objective
from trainer.contract import Facts, TrainConfig


class Origin(Frozen):
    """The study and trial that the configuration was taken from."""

    study: str
    study_name: str
    trial: int
    params: Mapping[str, Scalar]


class Reached(Frozen):
    """What the trial measured on the validation images after its last epoch."""

    objective: Objective
    value: FiniteFloat
    metrics: Mapping[str, FiniteFloat]
    steps: int


class Exported(Frozen):
    """A file that starts production training: `thaw train FILE`."""

    kind: Literal["thawline/training-config"] = "thawline/training-config"
    schema_version: Literal[1] = 1
    origin: Origin
    reached: Reached
    config: TrainConfig
    facts: Facts = Field(description="classes, image counts, fingerprint and split of the data, hash of the weights")
    environment: Mapping[str, str] = Field(description="versions, device and threads that the metric was reached with")
    depths: tuple[int, int] | None = Field(
        default=None,
        description="frozen stages whose stored output was read, for training and for validation images; rounding follows from it",
    )

    def to_yaml(self) -> str:
        """The file as people read it; floats as Python writes them, so that reading gives the same bits."""
        head = f"# Trial {self.origin.trial} of study {self.origin.study_name!a}. Train it with: thaw train FILE\n"
        return head + yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """The same as JSON."""
        return self.model_dump_json(indent=2) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes every value out, for our own reader takes no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """In quotes unless our reader takes it for text: it knows more numbers than PyYAML does, such as `12e45`."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if _reads_as_text(text) else '"')


def _reads_as_text(text: str) -> bool:
    try:
        return bool(from_yaml(text) == text)
    except Faulty:
        return False


_Dumper.add_representer(str, _Dumper.represent_text)


def export(study: Study, trial: Trial) -> Exported:
    """The configuration of a complete trial. A duplicate's is that of the trial that was trained.

    Raises NoResult when the trial has no finite value or the data was never checked.
    """
    if trial.value is None or study.facts is None:
        raise NoResult
    number = trial.number if trial.duplicate_of is None else trial.duplicate_of
    return Exported(
        origin=Origin(study=study.id, study_name=study.name, trial=number, params=dict(trial.params)),
        reached=Reached(
            objective=study.spec.objective,
            value=trial.value,
            metrics={name: value for name, value in trial.metrics.items() if value - value == 0},
            steps=trial.step,
        ),
        config=study.spec.config_for(trial.params, number),
        facts=study.facts,
        environment=dict(trial.result.get("environment", {})),
        depths=depths_in(trial.result),
    )


def read_export(text: str) -> Exported:
    """The configuration in a file's text, YAML or JSON. Raises InvalidInput with the faults."""
    try:
        document = plain(from_json(text) if text.lstrip().startswith("{") else from_yaml(text))
        return Exported.model_validate(document)
    except Faulty as error:
        raise InvalidInput(error.faults) from None
    except ValidationError as error:
        if not isinstance(document, dict) or document.get("kind") != "thawline/training-config":
            raise InvalidInput(
                [Fault((), "not_an_export", "this is not a configuration that Thawline exported; get one with `thaw best STUDY`")]
            ) from None
        raise InvalidInput(fault for item in error.errors() for fault in faults_of(item)) from None
