"""What an engine is told to replay, and what it tells of it."""

from collections.abc import Mapping
from typing import Literal

from bench.replay.recorded import LISTS
from bench.replay.workloads import Workload
from search_spaces import Params
from service.domain.parsing import parse_study
from service.domain.spec import StudySpec
from trainer.configuration import Frozen
from trainer.tasks.image_classification.config import ImageTrainConfig

Engine = Literal["naive", "strong", "ray", "thawline"]
ENGINES: tuple[Engine, ...] = ("naive", "strong", "ray", "thawline")
THREADS = 2  # of the process, or of two together


class Order(Frozen):
    """Replay these points of a list, to full length."""

    engine: Engine
    workload: Workload
    recorded: str
    numbers: tuple[int, ...]
    seed: int = 0  # the study's; the trials' seeds follow from it
    epochs: int | None = None  # None: the list's
    loader_workers: int = 0  # processes of a DataLoader
    slots: int = 1  # trials at one time, which divide the threads
    without: tuple[str, ...] = ()  # techniques that are switched off, of the engine thawline

    @property
    def document(self) -> dict[str, object]:
        """The study, as a document to post."""
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
    def configs(self) -> Mapping[int, ImageTrainConfig]:
        """The points as whole configurations, by number."""
        spec = self.spec
        return {number: image_config(spec, params, number) for number, params in self.params.items()}


def image_config(spec: StudySpec, params: Params, number: int) -> ImageTrainConfig:
    """The configuration of a trial of a study of images."""
    config = spec.config_for(params, number)
    assert isinstance(config, ImageTrainConfig)
    return config


class Trained(Frozen):
    """One trial, as it ended."""

    number: int
    seconds: float
    metrics: Mapping[str, float]  # empty when it diverged
    depth: int = 0  # frozen stages whose stored output it read
    lanes: int = 1


class Outcome(Frozen):
    """A replay: the trials, and how long they took together, without what came before the first and after the last."""

    trials: tuple[Trained, ...]
    busy_seconds: float
    activities: Mapping[str, float] = {}  # seconds, where the engine tells them
    saved_seconds: float = 0.0
