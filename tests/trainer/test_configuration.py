"""Families of models: which one a document becomes, and that none of its fields is lost."""

import pytest
from pydantic import BaseModel, ValidationError

from service.domain.spec import StudySpec
from tests.narrowed import training
from trainer.configuration import ListingFacts, TrainConfig, counted
from trainer.protocol import Finished, Scores
from trainer.tasks import registry
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.image_classification.spec import SPEC
from trainer.tasks.images.config import ImageData, ImageModel

DATA, MODEL = {"path": "labels.csv", "root": "/images"}, {"name": "resnet18"}
STUDY = {
    "name": "named", "data": DATA, "model": MODEL, "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
    "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 3},
}  # fmt: skip


class Answer(BaseModel):
    config: TrainConfig
    study: StudySpec


@pytest.mark.parametrize("named", [{}, {"task": "image_classification"}], ids=["as version 0.1 wrote it", "named"])
def test_a_document_becomes_the_model_of_its_task(named: dict[str, str]) -> None:
    config = TrainConfig.model_validate({"data": DATA, "model": MODEL, "image_size": 32, **named})
    assert isinstance(config, ImageClassificationConfig) and config.image_size == 32
    study = StudySpec.model_validate({**STUDY, **named})
    assert type(study) is StudySpec.of_task("image_classification") and isinstance(training(study).data, ImageData)


def test_calling_a_family_gives_the_model_of_the_task() -> None:
    config = TrainConfig(task="image_classification", data=ImageData(path="data"), model=ImageModel(name="resnet18"))
    assert type(config) is ImageClassificationConfig


def test_a_field_of_a_family_is_serialized_with_all_fields_of_the_task() -> None:
    study = StudySpec.model_validate(STUDY)
    answer = Answer(config=study.config_for({"lr": 0.5}, 0), study=study)
    again = Answer.model_validate_json(answer.model_dump_json())
    assert again == answer and answer.model_dump()["study"]["data"]["root"] == "/images"
    assert answer.model_dump()["config"]["image_size"] == 224


def test_a_task_that_is_not_installed_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="there is no task 'poetry'; choose one of image_classification"):
        StudySpec.model_validate({**STUDY, "task": "poetry"})


def test_an_objective_that_the_task_does_not_measure_is_refused() -> None:
    with pytest.raises(ValidationError, match="choose one of accuracy, precision, recall, f1, loss"):
        StudySpec.model_validate({**STUDY, "objective": {"metric": "bleu", "direction": "maximize"}})
    with pytest.raises(ValidationError, match="the better direction of loss is minimize"):
        StudySpec.model_validate({**STUDY, "objective": {"metric": "loss", "direction": "maximize"}})


def test_a_task_whose_report_has_a_field_of_every_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {*Finished.model_fields, *Scores.model_fields, "environment", "reuse", "pace", "trainable"} <= registry.RESULT_NAMES

    class Report(BaseModel):
        pace: float

    monkeypatch.setattr(type(SPEC), "TestReport", Report)
    registry.spec_of.cache_clear()
    with pytest.raises(ValueError, match="the report of task image_classification has fields named like those of every result: pace"):
        registry.spec_of("image_classification")
    monkeypatch.undo()
    assert registry.spec_of("image_classification") is SPEC


def test_sentences_have_the_singular_of_one() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, 1_200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert counted(1, "group has", "groups have") == "1 group has"
    (sentence,) = ListingFacts(groups=1).sentences()
    assert sentence.startswith("1 group by the column group")
