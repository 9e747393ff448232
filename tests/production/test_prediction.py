"""`thaw predict`: predictions give the metrics that the run reported, and rows that cannot be read are named."""

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from service.cli.console import FaultyFile
from service.cli.predicting import data_of
from tests.narrowed import trained as train_config
from tests.production.conftest import METRICS, Row, Train, Trained
from trainer.data.examples import UnfitData
from trainer.models import UnfitModel
from trainer.prediction import NOT_FINITE, ExportedModel, predict

HOST = torch.device("cpu")
Predicted = Sequence[tuple[Row, Mapping[str, Any]]]


def lines_of(model: Trained, file: Path, *fields: str) -> list[Mapping[str, Any]]:
    """The answers to the file, between the first line and the last one."""
    found = ExportedModel.read(model.folder, model.exported.facts, HOST)
    return list(predict(found, data_of(train_config(model.exported.config), file, fields)))[1:-1]


def predicted(model: Trained, part: str, tmp_path: Path) -> Predicted:
    rows = model.of(part)
    file = model.table(tmp_path / f"{part}.csv", rows, model.column)
    if model.column == "path":
        for row in rows:
            shutil.copy(Path(train_config(model.exported.config).data.path).parent / row["path"], tmp_path)
    lines = lines_of(model, file)
    assert [line["place"]["line"] for line in lines] == list(range(2, len(rows) + 2))
    return list(zip(rows, lines, strict=True))


def metrics_of(model: Trained, found: Predicted) -> dict[str, float]:
    """Metrics by hand."""
    if model.target == "number":
        errors = [line["prediction"] - float(row["number"]) for row, line in found]
        return {"rmse": math.sqrt(sum(error**2 for error in errors) / len(errors)), "mae": sum(map(abs, errors)) / len(errors)}
    names = model.exported.facts.model_dump()["classes" if model.target == "label" else "labels"]
    if model.target == "label":
        shares = [line["probabilities"][names.index(row["label"])] for row, line in found]
        right = sum(row["label"] == line["prediction"] for row, line in found)
        assert all(sum(line["probabilities"]) == pytest.approx(1) for _, line in found)
        return {"accuracy": right / len(found), "loss": sum(-math.log(share) for share in shares) / len(found)}
    scores = list[float]()
    sets = [({*row["labels"].split("|")} - {""}, {*line["prediction"]}) for row, line in found]
    for name in names:
        hits = sum(name in own and name in answer for own, answer in sets)
        named = sum((name in own) + (name in answer) for own, answer in sets)
        scores.append(2 * hits / named if named else 0.0)
    return {"f1": sum(scores) / len(scores), "subset_accuracy": sum(own == answer for own, answer in sets) / len(sets)}


@pytest.mark.parametrize("task", METRICS)
def test_predictions_give_the_metrics_of_the_run(trained: Train, task: str, tmp_path: Path) -> None:
    model = trained(task)
    assert model.finished.test is not None
    for part, reported in (("val", model.finished.metrics), ("test", model.finished.test.metrics)):
        for name, value in metrics_of(model, predicted(model, part, tmp_path)).items():
            exact = name in ("accuracy", "subset_accuracy", "f1")
            assert value == pytest.approx(reported[name], rel=1e-12 if exact else 1e-5), (part, name)


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt", "bitfit"])
def test_a_model_of_each_method_is_complete_in_its_folder(trained: Train, method: str, tmp_path: Path) -> None:
    values = {"prompt_tokens": 3} if method == "prompt" else {}
    model = trained("text_classification", method=method, epochs=2, **values)
    assert not Path(train_config(model.exported.config).model.name).exists()
    assert model.finished.test is not None
    found = metrics_of(model, predicted(model, "test", tmp_path))
    assert found["accuracy"] == model.finished.test.metrics["accuracy"]
    assert found["loss"] == pytest.approx(model.finished.test.metrics["loss"], rel=1e-4)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "service.cli", *map(str, arguments)]


def thaw(*arguments: object, locale: str | None = None) -> tuple[int, str, str]:
    environment = None if locale is None else {**os.environ, "LC_ALL": locale}
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600, env=environment)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_a_line_for_each_row_and_names_those_that_cannot_be_read(trained: Train, tmp_path: Path) -> None:
    model, file = trained("text_classification"), tmp_path / "new.jsonl"
    texts = ["w5 w6", "", "w4 w4", ["w4"], "=1+1"]
    lines = [json.dumps({"review": text}) for text in texts]
    file.write_text("\n".join([*lines, "no JSON"]) + "\n")
    code, out, err = thaw("predict", model.folder, file, "--data", "text=review")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["line", "prediction", "probability_no", "probability_yes", "error"]
    assert [row["line"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(row["error"]) for row in rows] == [False, True, False, True, False, True]
    assert all((row["prediction"] in ("no", "yes")) is (not row["error"]) for row in rows)
    assert (
        "3 of 6 were predicted." in err
        and "3 with an error: line 2: the text is empty; line 4: " in err
        and "line 6: it is not JSON" in err
    )
    code, _, err = thaw("predict", model.folder, file, "--data", "text=review", "--out", tmp_path / "out.jsonl", "--top", "1")
    assert code == 0, err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["prediction"] for one in found] == [row["prediction"] or None for row in rows]
    assert all(list(one["probabilities"]) == [one["prediction"]] for one in found if one["error"] is None)
    code, _, err = thaw("predict", model.folder, file, "--out", tmp_path / "none.csv")
    assert code == 2 and "no column text" in err and "review" in err and "--data text=VALUE" in err
    assert not (tmp_path / "none.csv").exists() and not list(tmp_path.glob(".none*"))


def test_images_of_a_folder_are_found_at_any_depth_and_damaged_ones_are_named(trained: Train, tmp_path: Path) -> None:
    model, source = trained("image_multilabel"), Path(train_config(trained("image_multilabel").exported.config).data.path).parent
    (tmp_path / "a/b").mkdir(parents=True)
    for number, name in enumerate(("top.png", "a/one.png", "a/b/two.png")):
        shutil.copy(source / f"{number}.png", tmp_path / name)
    (tmp_path / "a/cut.png").write_bytes((source / "3.png").read_bytes()[:100])
    (tmp_path / "a/notes.txt").write_text("no image")
    (tmp_path / "a/b/above").symlink_to(tmp_path)
    code, out, err = thaw("predict", model.folder, tmp_path)
    assert code == 0, err
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(out))}
    assert rows.keys() == {"top.png", "a/one.png", "a/b/two.png", "a/cut.png"}
    assert [path for path, row in rows.items() if row["error"]] == ["a/cut.png"] and "truncated" in rows["a/cut.png"]["error"]
    assert "1 with an error: path a/cut.png" in err and "notes.txt" in err
    (alone,) = lines_of(model, tmp_path / "top.png")
    assert "|".join(alone["prediction"]) == rows["top.png"]["prediction"]


def test_a_table_of_images_may_name_its_columns_and_missing_files_are_rows_with_an_error(trained: Train, tmp_path: Path) -> None:
    model = trained("image_regression")
    shutil.copy(Path(train_config(model.exported.config).data.path).parent / "0.png", tmp_path)
    (tmp_path / "new.csv").write_text("photo\n0.png\ngone.png\n\nx.txt\n0.png\n")
    first, gone, other, again = lines_of(model, tmp_path / "new.csv", "columns.path=photo")
    assert first["prediction"] == pytest.approx(again["prediction"], rel=1e-6) and first["place"] == {"line": 2, "path": "0.png"}
    assert gone["error"] == "No such file or directory" and "no image by its suffix" in other["error"]


def test_names_of_files_that_are_not_utf_8_are_written_with_escapes(trained: Train, tmp_path: Path) -> None:
    model = trained("image_classification")
    shutil.copy(Path(train_config(model.exported.config).data.path).parent / "0.png", tmp_path / os.fsdecode(b"a\xff.png"))
    for out in (tmp_path / "out.csv", tmp_path / "out.jsonl"):
        code, _, err = thaw("predict", model.folder, tmp_path, "--out", out)
        assert code == 0, err
        assert "a\\udcff.png" in out.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out.jsonl").read_text())["path"] == os.fsdecode(b"a\xff.png")
    line = thaw("predict", model.folder, tmp_path, locale="C.UTF-8")[1].splitlines()[1]
    assert line.startswith("a\\udcff.png,")


def test_a_message_names_a_file_in_one_line(trained: Train, tmp_path: Path) -> None:
    model = trained("image_classification")
    (tmp_path / "a\nb.png").write_bytes(b"no image")
    code, _, err = thaw("predict", model.folder, tmp_path)
    assert code == 0 and re.search(r"^1 with an error: path a\ufffdb\.png: .+$", err, re.MULTILINE), err
    code, _, err = thaw("predict", model.folder, tmp_path / "no\nfile")
    assert code == 2 and len(err.splitlines()) == 1, err


def test_an_output_that_cannot_be_written_is_an_error(trained: Train, tmp_path: Path) -> None:
    model = trained("text_classification")
    file = model.table(tmp_path / "new.csv", model.of("test"), "text")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("predict", model.folder, file), stdout=full, stderr=subprocess.PIPE, text=True, timeout=600)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "The output cannot be written: No space left on device."


def test_the_input_is_not_replaced_by_the_predictions(trained: Train, tmp_path: Path) -> None:
    model = trained("text_classification")
    file = model.table(tmp_path / "new.csv", model.of("test"), "text")
    before = file.read_bytes()
    code, _, err = thaw("predict", model.folder, file, "--out", tmp_path / "." / "new.csv")
    assert code == 1 and "is the file to predict" in err and file.read_bytes() == before


def test_a_pipe_is_not_replaced_by_the_predictions(trained: Train, tmp_path: Path) -> None:
    model = trained("text_classification")
    file, pipe = model.table(tmp_path / "new.csv", model.of("test"), "text"), tmp_path / "pipe"
    os.mkfifo(pipe)
    code, _, err = thaw("predict", model.folder, file, "--out", pipe)
    assert code == 1 and "is not a regular file" in err and pipe.is_fifo()


@pytest.fixture
def copied(trained: Train, tmp_path: Path) -> Path:
    """A folder that can be tampered with."""
    return Path(shutil.copytree(trained("text_multilabel").folder, tmp_path / "copied"))


def changed(file: Path, **entries: str) -> None:
    """Write the model file with other metadata."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    safetensors.torch.save_file(safetensors.torch.load_file(file), file, {**metadata, **entries})


def test_a_folder_that_is_not_whole_is_refused_with_what_is_missing(trained: Train, copied: Path, tmp_path: Path) -> None:
    model, facts, file = trained("text_multilabel"), trained("text_multilabel").exported.facts, copied / "model.safetensors"
    code, _, err = thaw("predict", tmp_path, tmp_path)
    assert code == 1 and "has no config.yaml and no model.safetensors" in err and "thaw train" in err
    changed(file, threshold="nan")
    with pytest.raises(UnfitModel, match="no threshold"):
        ExportedModel.read(copied, facts, HOST)
    changed(file, threshold="0.5", labels='["a"]')
    with pytest.raises(UnfitModel, match="belong to different models"):
        ExportedModel.read(copied, facts, HOST)
    with pytest.raises(UnfitModel, match="belong to different models"):
        ExportedModel.read(trained("text_classification").folder, facts, HOST)
    shutil.rmtree(copied / "huggingface")
    shutil.copy(model.folder / "model.safetensors", file)
    with pytest.raises(UnfitModel, match=r"there is no folder .*huggingface"):
        ExportedModel.read(copied, facts, HOST)
    file.write_bytes(b"{}")
    with pytest.raises(UnfitModel, match="is not a sound safetensors file"):
        ExportedModel.read(copied, facts, HOST)


def test_no_file_outside_of_the_folder_is_opened(trained: Train, copied: Path, tmp_path: Path) -> None:
    with safe_open(copied / "model.safetensors", "pt") as opened:
        config = json.loads(opened.metadata()["config"])
    config["model"]["name"], config["data"]["path"] = "/etc", "/etc/passwd"
    changed(copied / "model.safetensors", config=json.dumps(config))
    found = ExportedModel.read(copied, trained("text_multilabel").exported.facts, HOST)
    assert found.trained.model.name == "/etc" and Path(found.config.model.name).parent == copied


def test_an_output_that_is_not_finite_is_an_error_of_its_row(trained: Train, copied: Path, tmp_path: Path) -> None:
    model, tensors = trained("text_multilabel"), safetensors.torch.load_file(copied / "model.safetensors")
    name = next(name for name in tensors if name.endswith("classifier.bias"))
    tensors[name][0] = math.nan
    with safe_open(copied / "model.safetensors", "pt") as opened:
        safetensors.torch.save_file(tensors, copied / "model.safetensors", opened.metadata())
    found = ExportedModel.read(copied, model.exported.facts, HOST)
    file = model.table(tmp_path / "new.csv", model.of("test")[:2], "text")
    lines = list(predict(found, data_of(train_config(model.exported.config), file, ())))[1:-1]
    assert [(line["prediction"], line["error"]) for line in lines] == [(None, NOT_FINITE)] * 2


def test_bad_input_is_refused_with_its_field(trained: Train, tmp_path: Path) -> None:
    model = trained("text_classification")
    with pytest.raises(UnfitData, match="there is no file") as error:
        lines_of(model, tmp_path / "gone.csv")
    assert error.value.code == "missing_data"
    with pytest.raises(FaultyFile, match="#/data/texts"):
        data_of(train_config(model.exported.config), tmp_path / "new.csv", ["texts=review"])
    with pytest.raises(UnfitData, match="is none of"):
        lines_of(model, tmp_path)


def test_a_second_path_is_refused(trained: Train, tmp_path: Path) -> None:
    model = trained("text_classification")
    file = model.table(tmp_path / "new.csv", model.of("test"), "text")
    code, out, err = thaw("predict", model.folder, file, "--data", "path=other.csv")
    assert code == 1 and not out and "give the file to predict as FILE" in err
