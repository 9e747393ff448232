"""Text models of every type are converted to ONNX, or refused with their type and a remedy.

A conversion takes about six seconds, so only one type besides the BERT of tests/production is tried, and all with THAW_TESTS_ALL_TYPES=1.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.backbones.families import FAMILIES
from trainer.configuration import TrainConfig
from trainer.conversion import TOLERANCE, convert
from trainer.models import UnfitModel
from trainer.prediction import ExportedModel
from trainer.tasks.registry import task_of
from trainer.tasks.text.graph import PaddedTexts
from trainer.tasks.text_classification.spec import TextClassificationInfo

HOST = torch.device("cpu")
INFO = TextClassificationInfo(classes=("no", "yes"), rows={"train": 8}, fingerprint="f" * 64, split="5" * 64, weights_sha256="0" * 64)


def exported(folder: Path) -> ExportedModel:
    """The model of the folder with a head of random values, as one that was trained."""
    task: Any = task_of("text_classification")
    document = {"task": "text_classification", "data": {"path": "a.csv"}, "model": {"name": str(folder)}, "max_length": 32}
    config = TrainConfig.of_task("text_classification").model_validate(document)
    model = task.model(config, INFO).eval()
    return ExportedModel(task=task, trained=config, config=config, info=INFO, model=model, decision=None, device=HOST)


def with_eigenvalues(self: PaddedTexts, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
    """An operation that ONNX lacks."""
    found: Tensor = torch.linalg.eigvals(torch.ones(2, 2) * attention_mask.sum()).real[None]
    return found


@pytest.mark.parametrize("kind", FAMILIES if os.environ.get("THAW_TESTS_ALL_TYPES") else ("gpt2",))
def test_a_model_of_each_type_is_converted(kind: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    if kind == "t5":  # torch 2.14 cannot export its attention, and computes other outputs with the library's plain attention
        with pytest.raises(UnfitModel, match="cannot export a model of type t5"):
            convert(exported(model_folder(kind)), tmp_path, "onnx")
        return
    assert convert(exported(model_folder(kind)), tmp_path, "onnx")["largest_difference"] <= TOLERANCE


def test_a_type_that_cannot_be_exported_is_named(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PaddedTexts, "forward", with_eigenvalues)
    model = exported(model_folder("bert"))
    with pytest.raises(UnfitModel, match=r"cannot export a model of type bert as ONNX \(.+\); use `thaw predict`") as refused:
        convert(model, tmp_path, "onnx")
    assert str(refused.value).isprintable() and list(tmp_path.iterdir()) == []
