"""Studies and configs of tasks with a torch half, by their types: most functions know those of any task."""

from service.domain.spec import StudySpec, TrainingStudy
from trainer.configuration import RunConfig, TrainConfig


def training(spec: StudySpec) -> TrainingStudy:
    assert isinstance(spec, TrainingStudy)
    return spec


def trained(config: RunConfig) -> TrainConfig:
    assert isinstance(config, TrainConfig)
    return config
