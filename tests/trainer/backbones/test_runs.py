"""Whole runs of heads without biases, with normalisations and with a maximum over tokens: together as alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.backbones.description import AutoPooling, describe_folder
from trainer.cache import Cache
from trainer.configuration import TrainConfig
from trainer.heads.ensemble import HeadEnsemble
from trainer.learners import Learner, Member, ModelLearner
from trainer.loop import TrainingLoop
from trainer.protocol import Finished

WORDS = {"a": 10, "b": 25, "c": 40}  # the first of the words of each label's texts


@pytest.fixture
def table(tmp_path: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    rows = list[str]()
    for label in "abc" * 40:
        words = WORDS[label] + torch.randint(12, (int(torch.randint(2, 12, (), generator=draw)),), generator=draw)
        rows.append(f"{' '.join(f'w{word}' for word in words.tolist())},{label}")
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text,label", *rows]))
    return path


@pytest.mark.parametrize(("kind", "pooling"), [("llama", "auto"), ("gemma", "max"), ("modernbert", "auto"), ("t5", "mean")])
def test_heads_trained_together_end_as_each_alone(
    kind: str, pooling: AutoPooling, table: Path, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, cache = model_folder(kind), Cache(tmp_path / "cache", 10**9)
    document = {
        "task": "text_classification", "data": {"path": str(table), "validation": 0.25}, "model": {"name": str(folder)},
        "epochs": 3, "batch_size": 16, "frozen_layers": describe_folder(folder).stages, "pooling": pooling, "max_length": 20,
    }  # fmt: skip
    config = TrainConfig.of_task("text_classification").model_validate(document)
    configs = [config.model_copy(update=update) for update in ({"lr": 1e-2, "seed": 1}, {"lr": 1e-3, "seed": 2})]

    def results(build: type[Learner], some: list[TrainConfig]) -> dict[int, Finished]:
        loop = TrainingLoop([Member(config=one) for one in some], build.build, device=torch.device("cpu"), cache=cache)  # type: ignore[attr-defined]
        return {event.lane: event for event in loop.events() if isinstance(event, Finished)}

    together = results(HeadEnsemble, configs)
    for place, own in enumerate(configs):
        alone = results(ModelLearner, [own])[0]
        assert together[place].metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-4)
    assert abs(together[0].metrics["loss"] - together[1].metrics["loss"]) > 0.01
