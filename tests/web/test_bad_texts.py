"""What is wrong with a study of texts is refused when the study is posted, with its place in the document and a remedy."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.store import Store, queries
from tests.trainer.backbones.conftest import BERT_CONFIG, bert_shapes, write_tokenizer, write_weights
from tests.web.problem import assert_problem

Folder = Callable[..., Path]
ROWS = ("text,label", *(f"w4 w{number},{'ab'[number % 2]}" for number in range(5, 45)))
LEARNING_RATE = {"type": "float", "low": 1e-5, "high": 1e-3}


def model(folder: Path, *, tokens: int = 60, pickled: bool = False, **config: Any) -> str:
    """A BERT with positions for 40 tokens."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**BERT_CONFIG, **config}))
    write_weights(folder / "model.safetensors", bert_shapes())
    if pickled:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    write_tokenizer(folder, tokens)
    return str(folder)


@pytest.mark.parametrize(
    ("folder", "data", "fixed", "pointer", "code", "remedy"),
    [
        ({"model_type": "t5gemma"}, {}, {}, "#/model/name", "unknown_model_type", "bert, roberta"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, {}, {}, "#/model/name", "remote_code", "use a model of a type that is listed"),
        ({"pickled": True}, {}, {}, "#/model/name", "pickled_weights", "save_pretrained"),
        ({"tokens": 61}, {}, {}, "#/model/name", "unfit_tokenizer", "use the tokenizer of this model"),
        ({}, {"text": "sentence"}, {}, "#/data/text", "missing_column", "text"),
        ({}, {"rows": ("text,label", "one,a", "two,a")}, {}, "#/data/target", "one_target", "name another column as data.target"),
        ({}, {"test": ("text,label", "three,c")}, {}, "#/data/target", "label_missing_in_train", "train"),
        ({}, {}, {"max_length": 41}, "#/fixed/max_length", "text_too_long", "lower this to 40 or less"),
        ({}, {}, {"method": "prompt", "frozen_layers": 1}, "#/fixed/frozen_layers", "does_not_apply", "remove it, or change method"),
    ],
    ids=[
        "another type", "code of its own", "pickled weights", "tokenizer", "no text column", "one label", "label that train lacks",
        "more tokens than positions", "prompt with frozen stages",
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_trained_is_refused(
    client: TestClient, store: Store, tmp_path: Path, folder: Mapping[str, Any], data: Mapping[str, Any], fixed: Mapping[str, Any],
    pointer: str, code: str, remedy: str,
) -> None:  # fmt: skip
    section = {"path": str(tmp_path / "train.csv"), **data}
    (tmp_path / "train.csv").write_text("\n".join(section.pop("rows", ROWS)))
    if "test" in section:
        (tmp_path / "test.csv").write_text("\n".join(section["test"]))
        section["test"] = str(tmp_path / "test.csv")
    study = {
        "name": "texts", "task": "text_classification", "data": section, "model": {"name": model(tmp_path / "model", **folder)},
        "search_space": {"lr": LEARNING_RATE}, "fixed": {"batch_size": 4, "max_length": 32, **fixed},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 1},
    }  # fmt: skip
    problem = assert_problem(client.post("/api/v1/studies", json=study), 422, "validation")
    (fault,) = problem["errors"]
    assert (fault["pointer"], fault["code"]) == (pointer, code) and remedy in fault["detail"], fault
    assert store.read(queries.studies, 10) == []


def test_a_sound_study_is_accepted(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(ROWS))
    study = {
        "name": "texts", "task": "text_classification", "data": {"path": str(tmp_path / "train.csv")},
        "model": {"name": model(tmp_path / "model")}, "search_space": {"lr": LEARNING_RATE}, "fixed": {"batch_size": 4, "max_length": 32},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 1},
    }  # fmt: skip
    assert client.post("/api/v1/studies", json=study).status_code == 201
