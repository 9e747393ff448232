"""The order to an engine, and the outcome that it returns."""

from collections.abc import Mapping
from typing import Literal

from bench.replay.recorded import LISTS
from bench.replay.workloads import Workload
from search_spaces import Params
from service.domain.parsing import parse_study
from service.domain.spec import StudySpec
from trainer.configuration import Frozen
from trainer.tasks.image_classification.config import ImageClassificationConfig

Engine = Literal["naive", "strong", "ray", "thawline"]
ENGINES: tuple[Engine, ...] = ("naive", "strong", "ray", "thawline")
THREADS = 2  # of one process, or of two together


class Order(Frozen):
    """Train these points of a list, without pruning."""

    engine: Engine
    workload: Workload
    recorded: str
    numbers: tuple[int, ...]
    seed: int = 0  # the study's; the trials' seeds follow from it
    epochs: int | None = None  # None: the list's
    loader_workers: int = 0  # processes per DataLoader
    slots: int = 1  # concurrent trials, which divide the threads
    without: tuple[str, ...] = ()  # techniques that are switched off in the engine thawline

    @property
    def document(self) -> dict[str, object]:
        """The study document."""
        recorded = LISTS[self.recorded]
        document = self.workload.study(recorded, len(self.numbers), self.seed)
        if self.epochs is not None:
            document["fixed"]["epochs"] = self.epochs
        return document

    @property
    def spec(self) -> StudySpec:
        return parse_study(self.document)

    @property
    def params(self) -> Mapping[int, Params]:
        """The points by number."""
        points = LISTS[self.recorded].params(self.workload.stages)
        return {number: points[number] for number in self.numbers}

    @property
    def configs(self) -> Mapping[int, ImageClassificationConfig]:
        """The points as complete configurations, by number."""
        spec = self.spec
        return {number: image_config(spec, params, number) for number, params in self.params.items()}


def image_config(spec: StudySpec, params: Params, number: int) -> ImageClassificationConfig:
    """The configuration of a trial of a study of images."""
    config = spec.config_for(params, number)
    assert isinstance(config, ImageClassificationConfig)
    return config


class Trained(Frozen):
    """An ended trial."""

    number: int
    seconds: float
    metrics: Mapping[str, float]  # empty if it diverged
    depth: int = 0  # number of frozen stages whose stored output it read
    lanes: int = 1


class Outcome(Frozen):
    """The trials, and the seconds from the start of the first one to the end of the last one."""

    trials: tuple[Trained, ...]
    busy_seconds: float
    activities: Mapping[str, float] = {}  # seconds by activity, if the engine reports them
    saved_seconds: float = 0.0
