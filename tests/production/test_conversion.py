"""`thaw convert`: ONNX files give the model's outputs for any size of batch and text, and int8 files state what they lose."""

import csv
import io
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.cli.predicting import _partial, data_of
from tests.narrowed import trained as train_config
from tests.production.conftest import METRICS, Train, Trained
from tests.production.test_prediction import command, thaw
from tests.trainer.text.conftest import needed
from trainer import conversion
from trainer.cache import Cache
from trainer.conversion import FILES, TOLERANCE, Labelled, convert
from trainer.data.examples import UnfitData
from trainer.models import UnfitModel
from trainer.prediction import ExportedModel

HOST = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _packages() -> None:
    needed("onnxruntime")
    needed("onnxscript")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "TIMED_SECONDS", 0.0)


def copied(model: Trained, folder: Path) -> tuple[ExportedModel, Path]:
    own = Path(shutil.copytree(model.folder, folder / "model"))
    return ExportedModel.read(own, model.exported.facts, HOST), own


def session(file: Path) -> Any:
    return needed("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])


def described(file: Path) -> dict[str, str]:
    return dict(session(file).get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize("task", METRICS)
def test_each_task_has_a_file_that_other_programs_run(trained: Train, task: str, tmp_path: Path) -> None:
    trained_model = trained(task)
    model, folder = copied(trained_model, tmp_path)
    report = convert(model, folder, "onnx")
    assert report["largest_difference"] <= TOLERANCE and report["bytes"] == (folder / "model.onnx").stat().st_size
    running, metadata = session(folder / "model.onnx"), described(folder / "model.onnx")
    is_text = task.startswith("text")
    assert [one.name for one in running.get_inputs()] == (["input_ids", "attention_mask", "token_type_ids"] if is_text else ["pixels"])
    final = "value" if task.endswith("regression") else "probabilities"
    assert [one.name for one in running.get_outputs()] == ["outputs", final]
    assert metadata["task"] == task and metadata["format"] == "thawline/onnx-1"
    assert json.loads(metadata["report"])["largest_difference"] == report["largest_difference"]
    assert ("max_length" if is_text else "image_size") in json.loads(metadata["preprocessing"])
    names = {"classification": "classes", "multilabel": "labels", "regression": "target_mean"}[task.partition("_")[2]]
    assert names in metadata and ("threshold" in metadata) is task.endswith("multilabel")
    assert not list(folder.glob(".convert-*"))


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt"])
def test_a_model_of_each_method_is_converted(trained: Train, method: str, tmp_path: Path) -> None:
    values = {"prompt_tokens": 3} if method == "prompt" else {}
    model, folder = copied(trained("text_classification", method=method, epochs=2, **values), tmp_path)
    assert convert(model, folder, "onnx")["largest_difference"] <= TOLERANCE


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_padding_does_not_change_a_result(trained: Train, pooling: str, tmp_path: Path) -> None:
    model, folder = copied(trained("text_classification", pooling=pooling, epochs=1), tmp_path)
    convert(model, folder, "onnx")
    running, text = session(folder / "model.onnx"), np.array([[1, 7, 9, 2]], dtype=np.int64)
    (alone, _) = running.run(None, {"input_ids": text, "attention_mask": np.ones_like(text), "token_type_ids": np.zeros_like(text)})
    for filler in (0, 17):
        padded = np.full((3, 11), filler, dtype=np.int64)
        mask = np.ones_like(padded)
        padded[1, :4], mask[1, 4:] = text[0], 0
        outputs, _ = running.run(None, {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)})
        np.testing.assert_allclose(outputs[1], alone[0], atol=1e-5)


def test_a_file_with_other_outputs_is_deleted(trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = copied(trained("image_classification"), tmp_path)
    run = conversion.Runtime.__call__

    def shifted(self: Any, graph: Any, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        outputs, final = run(self, graph, inputs)
        return outputs + 10, final

    monkeypatch.setattr(conversion.Runtime, "__call__", shifted)
    with pytest.raises(UnfitModel, match=r"they differ by up to .*was deleted"):
        convert(model, folder, "onnx")
    assert not list(folder.glob("*.onnx")) and not list(folder.glob(".convert-*"))


def test_without_the_packages_the_extra_is_named(trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("image_classification")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UnfitModel, match=r"pip install .thawline\[onnx\]. \(onnxscript is missing\)"):
        conversion._answered(
            {"folder": str(model.folder), "facts": model.exported.facts.model_dump(mode="json"), "to": "onnx", "metric": ""}
        )


@pytest.mark.parametrize("task", ["text_classification", "text_regression", "image_multilabel"])
def test_int8_states_what_it_loses_of_the_metric(trained: Train, task: str, tmp_path: Path) -> None:
    trained_model = trained(task)
    model, folder = copied(trained_model, tmp_path)
    labelled = Labelled.of_study(model, None, Cache.none())
    report = convert(model, folder, "int8", labelled, METRICS[task])
    assert trained_model.finished.test is not None
    assert report["before"] == pytest.approx(trained_model.finished.test.metrics[METRICS[task]], rel=1e-4)
    assert report["difference"] == report["after"] - report["before"] and report["examples"] == len(trained_model.of("test"))
    low, high = report["interval"] or (0.0, 0.0)  # none if no example has another score
    assert low <= report["difference"] <= high and (report["interval"] is not None or report["changed"] is not None)
    assert report["data"] == "the study's test part" and report["milliseconds"] > 0 and report["milliseconds_before"] > 0
    operators = {node.op_type for node in needed("onnx").load(folder / FILES["int8"]).graph.node}
    assert operators & {"MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul"} and not (folder / FILES["onnx"]).exists()
    assert json.loads(described(folder / FILES["int8"])["report"])["difference"] == report["difference"]


@pytest.mark.parametrize("task", ["text_classification", "text_regression", "image_multilabel"])
def test_a_labelled_file_gives_the_same_metric_as_the_part_that_it_holds(trained: Train, task: str, tmp_path: Path) -> None:
    trained_model = trained(task)
    model = ExportedModel.read(trained_model.folder, trained_model.exported.facts, HOST)
    rows = trained_model.of("test")
    beside = Path(train_config(trained_model.exported.config).data.path).parent if trained_model.column == "path" else tmp_path
    file = trained_model.table(beside / "labelled.csv", rows, trained_model.column, trained_model.target)
    given, own = (
        Labelled.of_file(model, data_of(train_config(trained_model.exported.config), file, ())),
        Labelled.of_study(model, None, Cache.none()),
    )
    found = [conversion._measured(model, model.outputs(one.examples, one.rows), one.targets).metrics for one in (given, own)]
    assert found[0] == pytest.approx(found[1], rel=1e-4) and not given.unused


def test_rows_that_cannot_be_measured_are_named(trained: Train, tmp_path: Path) -> None:
    trained_model, file = trained("text_classification"), tmp_path / "labelled.csv"
    model = ExportedModel.read(trained_model.folder, trained_model.exported.facts, HOST)
    file.write_text("text,label\nw5,yes\n,no\nw4,maybe\nw4,\n")
    found = Labelled.of_file(model, data_of(train_config(trained_model.exported.config), file, ()))
    assert len(found.rows) == 1 and [one.partition(":")[0] for one in found.unused] == ["line 3", "line 4", "line 5"]
    assert "maybe" in found.unused[1]
    file.write_text("text,label\nw4,maybe\n")
    with pytest.raises(UnfitData, match=r"no row of labelled\.csv can be used: line 2"):
        Labelled.of_file(model, data_of(train_config(trained_model.exported.config), file, ()))


def test_too_many_examples_for_the_metric_are_refused(trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = copied(trained("text_classification"), tmp_path)
    monkeypatch.setattr("trainer.targets.classes.target.MOST_RANKED", 1)
    with pytest.raises(UnfitModel, match="auroc is not computed for as many as 25 examples"):
        convert(model, folder, "int8", Labelled.of_study(model, None, Cache.none()), "auroc")


def test_the_command_prints_both_files_and_the_loss(trained: Train, tmp_path: Path) -> None:
    model = trained("text_multilabel")
    folder = Path(shutil.copytree(model.folder, tmp_path / "model"))
    file = model.table(tmp_path / "labelled.csv", model.of("test"), "text", "labels")
    code, out, err = thaw("--home", tmp_path / "home", "convert", folder, "--to", "int8", "--data", f"path={file}")
    assert code == 0, err
    assert f"{folder / 'model.int8.onnx'}: " in out and "differ from those of the model by at most" in out
    assert re.search(r"float32 +\S+ % +\S+ kB +\S+ *\nint8 +\S+ % +\S+ kB", out), out
    assert re.search(r"Difference on 25 texts, labelled\.csv: [+-]\S+ points", out), out
    assert re.search(r"of 25 predictions differ", out), out
    code, _, err = thaw("--home", tmp_path / "home", "convert", folder, "--to", "int8", "--data", "text=review")
    assert code == 1 and "--data path=FILE" in err
    rows = list(csv.reader(io.StringIO(thaw("predict", folder, file, "--data", "text=text")[1])))
    assert len(rows) == len(model.of("test")) + 1


def test_a_full_disk_is_an_error_and_leaves_no_file(trained: Train, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained("text_multilabel").folder, tmp_path / "model"))
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = subprocess.run(command("convert", folder), capture_output=True, text=True, timeout=600, preexec_fn=limit)
    assert done.returncode == 1 and done.stderr == "the ONNX file cannot be written: File too large\n", done.stderr
    assert not list(folder.glob("*.onnx")) and not list(folder.glob(".convert-*"))


@pytest.mark.parametrize("module", ["trainer.conversion", "trainer.prediction", "trainer.data.inspection"])
def test_a_process_without_a_request_ends_without_a_traceback(module: str) -> None:
    """As when the command was interrupted before it had sent the request."""
    done = subprocess.run([sys.executable, "-P", "-m", module], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_an_interrupted_conversion_leaves_no_file(trained: Train, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained("text_multilabel").folder, tmp_path / "model"))
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a suite that runs in the background may ignore the signal
    with subprocess.Popen(command("convert", folder), stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as process:
        until = time.monotonic() + 600
        while not list(folder.glob(".convert-*")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (130, "")
    assert not list(folder.glob("*.onnx")) and not list(folder.glob(".convert-*"))


def test_what_a_killed_conversion_left_is_removed_by_the_next_one_alone(trained: Train, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained("text_multilabel").folder, tmp_path / "model"))
    (folder / ".convert-killed").mkdir()
    (folder / ".convert-killed" / "model.onnx").write_bytes(b"half")
    with subprocess.Popen(command("convert", folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        until = time.monotonic() + 600
        while (names := {one.name for one in folder.glob(".convert-*")}) <= {".convert-killed"} and time.monotonic() < until:
            time.sleep(0.01)
        assert ".convert-killed" not in names
        with _partial(folder):  # as another conversion at the same time
            assert len(list(folder.glob(".convert-*"))) == 2
        _, err = first.communicate(timeout=600)
    assert first.returncode == 0, err
    assert (folder / "model.onnx").exists() and not list(folder.glob(".convert-*"))
