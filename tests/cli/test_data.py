"""`thaw data inspect`: what a study would read, with and without torch, from a study file or from options."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.cli import data
from trainer.configuration import FIRST_TASK
from trainer.data.measures import Spread

Thaw = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of each of two labels, and one that is nearly equal to another."""
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{number}.png")
    Image.open(tmp_path / "pets" / "cat" / "0.png").save(tmp_path / "pets" / "cat" / "again.bmp")
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("fur")
    return tmp_path / "pets"


def test_examples_labels_parts_and_duplicates_are_shown(thaw: Thaw, pictures: Path, tmp_path: Path) -> None:
    said = thaw("--home", tmp_path / "home", "data", "inspect", "--data", f"path={pictures}", "--data", "test=0.2")
    assert (said.code, said.err) == (0, "")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == f"{pictures}: 21 images for {FIRST_TASK}; the split is drawn"
    assert {"train 13", "validation 4", "test 4", "2 labels", "cat 11", "dog 10", "21 different images."} <= set(lines)
    assert any(line.startswith("1 group of near-duplicates: ") for line in lines)
    assert "Left out: 1, not an image by its suffix (dog/notes.txt)." in lines


def test_json_has_the_same_and_the_digests(thaw: Thaw, pictures: Path, tmp_path: Path) -> None:
    arguments = ("--home", tmp_path / "home", "data", "inspect", "--json", "--data", f"path={pictures}")
    found = json.loads(thaw(*arguments).out)
    assert (found["task"], found["examples"], found["given"], found["faults"]) == (FIRST_TASK, 21, [], [])
    assert found["parts"] == {"train": 17, "validation": 4, "test": 0} and found["distinct"] == 21
    assert found["labels"] == {"cat": {"all": 11}, "dog": {"all": 10}} and found["duplicates"]["groups"] == 1
    assert len(found["fingerprint"]) == len(found["split"]) == 64 and found["data"]["path"] == str(pictures)
    quick = json.loads(thaw(*arguments, "--quick").out)
    assert (quick["duplicates"], quick["split"], quick["labels"]) == (None, None, found["labels"])
    assert sum(quick["parts"].values()) == 21


def test_a_study_file_is_read_with_the_paths_relative_to_it(thaw: Thaw, pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: pets\ndata: {path: pets, test: 0.2}\nmodel: {name: resnet18}\n")
    found = json.loads(thaw("data", "inspect", file, "--json", "--quick").out)
    assert found["parts"] == {"train": 13, "validation": 4, "test": 4}
    replaced = json.loads(thaw("data", "inspect", file, "--json", "--quick", "--data", "test=0", "--data", "validation=0.5").out)
    assert replaced["parts"] == {"train": 10, "validation": 11, "test": 0}
    assert replaced["data"]["path"] == str(pictures)
    file.write_text(file.read_text() + "fixed: {epoch: 1}\nobjective: {metric: acc, direction: maximize}\n")
    said = thaw("data", "inspect", file, "--quick")
    assert said.code == 2 and "21 images" in said.out
    assert [line.split()[1] for line in said.err.splitlines()] == ["#/fixed/epoch", "#/objective/metric"]
    assert replaced["data"]["validation"] == 0.5


def test_a_given_split_is_counted_by_part(thaw: Thaw, pictures: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "split" / part).mkdir(parents=True)
        for label in ("cat", "dog"):
            (pictures / label).rename(tmp_path / "split" / part / label) if part == "train" else (tmp_path / "split" / part / label).mkdir()
    for label in ("cat", "dog"):
        (tmp_path / "split" / "train" / label / "9.png").rename(tmp_path / "split" / "val" / label / "9.png")
    found = json.loads(thaw("data", "inspect", "--json", "--quick", "--data", f"path={tmp_path / 'split'}").out)
    assert found["given"] == ["train", "validation"] and found["parts"] == {"train": 19, "validation": 2, "test": 0}
    assert found["labels"] == {"cat": {"train": 10, "validation": 1}, "dog": {"train": 9, "validation": 1}}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--data", "path=/nowhere"), 2, "#/data/path  there is no folder /nowhere here; correct the path"),
        (("--data", "path=/tmp", "--data", "tset=0.2"), 2, "#/data/tset  there is no such field here"),
        (("--data", "path=/tmp", "--data", "test=1"), 2, "#/data/test  "),
        (("--data", "path"), 1, "--data path is no KEY=VALUE, such as --data path=train.csv."),
        (("--task", "poetry", "--data", "path=/tmp"), 2, "#/task  no such task is installed"),
        ((), 2, "give a study file, or --data path=..."),
    ],
)
def test_faults_have_a_pointer_and_an_exit_code(thaw: Thaw, options: tuple[str, ...], code: int, message: str) -> None:
    said = thaw("data", "inspect", *options)
    assert said.code == code and message in said.err and said.out == ""


def test_faults_are_in_the_json_too(thaw: Thaw, pictures: Path) -> None:
    said = thaw("data", "inspect", "--json", "--data", f"path={pictures / 'cat'}")
    (fault,) = json.loads(said.out)["faults"]
    assert said.code == 2 and (fault["pointer"], fault["code"]) == ("#/data/path", "empty_data") and fault["message"] in said.err


def test_faults_that_only_reading_shows_come_from_the_trainer(thaw: Thaw, pictures: Path, tmp_path: Path) -> None:
    (pictures / "dog" / "broken.png").write_bytes(b"no picture")
    said = thaw("--home", tmp_path / "home", "data", "inspect", "--data", f"path={pictures}")
    assert said.code == 2 and "#/data  1 of 22 images cannot be used: dog/broken.png" in said.err
    skipped = thaw("--home", tmp_path / "home", "data", "inspect", "--data", f"path={pictures}", "--data", "unreadable=skip")
    assert skipped.code == 0 and "1 file that cannot be read is left out: dog/broken.png" in skipped.out


def test_without_torch_the_split_is_counted_and_a_sentence_says_so(thaw: Thaw, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "has_torch", lambda: False)
    said = thaw("data", "inspect", "--data", f"path={pictures}")
    assert said.code == 0 and data.QUICK in said.out and "near-duplicates" not in said.out


def test_texts_are_shown_with_their_lengths(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f"words {'and ' * (number % 4)}{number},{'ab'[number % 2]}\n" for number in range(20))
    )
    (tmp_path / "dev.jsonl").write_text('{"text": "some other words", "label": "a"}\n')
    options = (
        "--task",
        "text_classification",
        "--data",
        f"path={tmp_path / 'train.csv'}",
        "--data",
        f"validation={tmp_path / 'dev.jsonl'}",
    )
    found = json.loads(thaw("data", "inspect", "--quick", "--json", *options).out)
    assert found["given"] == ["train", "validation"] and found["parts"] == {"train": 20, "validation": 1, "test": 0}
    assert found["labels"] == {"a": {"train": 10, "validation": 1}, "b": {"train": 10}}
    assert found["measures"]["words"] == {"least": 2, "median": 3, "p95": 5, "most": 5}
    assert "The validation part has no rows of 1 label." in found["listing"]["notes"]
    missing = thaw("data", "inspect", "--quick", *options, "--data", "text=sentence")
    assert missing.code == 2 and "#/data/text  train.csv has no column sentence; its columns are: text; label" in missing.err


def test_tokens_and_near_duplicates_of_texts_are_counted_with_the_model_of_the_study(thaw: Thaw, shared_data: Path, tmp_path: Path) -> None:
    lines = [f"where is my card {word}{mark},{label}" for word in ("today", "now", "please") for mark in ("", "!") for label in "ab"]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    file = tmp_path / "study.yaml"
    model = shared_data / "weights" / "minilm-l6-v2"
    file.write_text(f"name: x\ntask: text_classification\ndata: {{path: train.csv}}\nmodel: {{name: {model}}}\nfixed: {{max_length: 7}}\n")
    found = json.loads(thaw("--home", tmp_path / "home", "data", "inspect", "--json", file).out)
    assert found["measures"]["tokens"] == {"least": 7, "median": 7, "p95": 8, "most": 8}
    assert (found["duplicates"]["groups"], found["duplicates"]["rows"], found["duplicates"]["mixed"]) == (3, 12, 3)
    assert found["notes"] == ["max_length 7 cuts 50 % of the texts (6 of 12)."]
    assert found["distinct"] == 12 and sum(found["parts"].values()) == 12
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare" / name).symlink_to(model / name)
    file.write_text(file.read_text().replace(str(model), str(tmp_path / "bare")))
    bare = thaw("--home", tmp_path / "home", "data", "inspect", file)
    assert bare.code == 2 and "it has no tokenizer.json and no vocabulary such as vocab.txt; copy" in bare.err, bare.err


def test_a_model_that_cannot_be_read_is_a_fault_of_its_field(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"words {number},{'ab'[number % 2]}\n" for number in range(20)))
    file = tmp_path / "study.yaml"
    file.write_text("name: x\ntask: text_classification\ndata: {path: train.csv}\nmodel: {name: ./nowhere}\n")
    said = thaw("data", "inspect", "--quick", file)
    assert said.code == 2 and "#/model/name  " in said.err and "20 texts" in said.out
    sets = ("--task", "text_multilabel", "--data", f"path={tmp_path / 'sets.csv'}")
    (tmp_path / "sets.csv").write_text("text,label\n" + "".join(f"words {number},{('a', 'a|b', '')[number % 3]}\n" for number in range(18)))
    assert "6 texts have no label." in thaw("data", "inspect", "--quick", *sets).out


def test_quantiles_are_values() -> None:
    assert Spread.of([]) is None and Spread.of([3]) == Spread(least=3, median=3, p95=3, most=3)
    assert Spread.of(range(100, -1, -1)) == Spread(least=0, median=50, p95=95, most=100)
    assert Spread.of([1, 2, 30]) == Spread(least=1, median=2, p95=30, most=30)
