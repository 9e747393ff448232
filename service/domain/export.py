"""The exported configuration: all that production training needs, and where it came from."""

from collections.abc import Mapping
from typing import Literal

from pydantic import FiniteFloat

from search_spaces import Scalar
from search_spaces.parameters import Frozen
from service.domain.records import Study, Trial
from service.domain.spec import Objective
from trainer.contract import Facts, TrainConfig

SCHEMA = 1


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

    schema_version: Literal[1] = SCHEMA
    kind: Literal["thawline/training-config"] = "thawline/training-config"
    config: TrainConfig
    facts: Facts
    reached: Reached
    origin: Origin
    environment: Mapping[str, str]
