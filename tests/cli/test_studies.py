"""Commands on studies against a real server."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

import trainer.tasks.images.catalogue as catalogue
from search_spaces.documents import from_yaml
from trainer.configuration import resolve_paths

STAGES = len(catalogue.load("small_cnn").stages)
Thaw = Callable[..., Any]
StudyFile = Callable[..., Path]


def test_a_study_is_created_watched_shown_exported_and_trained_to_the_same_figure_from_the_same_data_only(
    thaw: Thaw, served: Any, study_file: StudyFile, tmp_path: Path
) -> None:
    created = thaw("--server", served.address, "study", "create", study_file("whole"), "--watch")
    assert created.code == 0, created.err
    assert "trial 0: complete, accuracy 0." in created.out and "trial 1: complete" in created.out
    assert "The study is complete; best accuracy 0." in created.out

    shown = thaw("--server", served.address, "study", "show", "whole").out.splitlines()
    assert "complete" in shown[0] and [line.split()[0] for line in shown[-3:]] == ["trial", "0", "1"]
    notes = [line for line in shown if line.startswith("note: ")]
    assert len(shown) == 5 + len(notes)
    assert any("largest class" in line for line in notes)
    assert any(
        line.split()[:3] == ["whole", "complete", "2/2"] for line in thaw("--server", served.address, "study", "list").out.splitlines()
    )

    reported = httpx2.get(f"{served.address}/api/v1/studies/whole/trials/1").json()
    assert reported["reuse"]["pixels"] in ("decoded", "cached") and reported["reuse"]["lanes"] == 1
    worst = reported["result"]["worst_classes"]
    assert all("picture" in one for one in worst[:12]) and bool(worst) is (reported["metrics"]["accuracy"] < 1)
    assert reported["pace"]["samples_per_second"] > 0 and sum(reported["pace"]["shares"].values()) == pytest.approx(1)

    log = thaw("--server", served.address, "study", "log", "whole", "1", "--follow").out
    assert "prepared small_cnn" in log and "epoch 2 of 2: loss " in log and "finished 2 epochs in" in log.splitlines()[-1], log

    assert thaw("--server", served.address, "best", "whole", "-o", tmp_path / "best.yaml").code == 0
    assert from_yaml((tmp_path / "best.yaml").read_text()) == json.loads(
        thaw("--server", served.address, "best", "whole", "--format", "json").out
    )

    trained = thaw("train", tmp_path / "best.yaml", "--out", tmp_path / "model")
    assert trained.code == 0, trained.err
    assert "(equal)" in trained.out
    result = json.loads((tmp_path / "model" / "result.json").read_text())
    assert result["equal"] is True and result["reached"] == result["expected"]
    worst = result["worst_classes"]
    assert worst and not any("picture" in one for one in worst), "the folder of a model has no pictures of the data"
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "model" / "config.yaml").read_text() == (tmp_path / "best.yaml").read_text()

    changed = (tmp_path / "best.yaml").read_text().replace(fingerprint_in(tmp_path / "best.yaml"), "f" * 64)
    (tmp_path / "changed.yaml").write_text(changed)
    refused = thaw("train", tmp_path / "changed.yaml", "--out", tmp_path / "refused")
    assert refused.code == 1 and "bad_data" in refused.err
    assert not (tmp_path / "refused" / "model.safetensors").exists()


def test_watching_a_study_that_fails_ends_with_an_error(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    fixed = {"image_size": 16, "precision": "float16"}
    created = thaw("--server", served.address, "study", "create", study_file("unfit", fixed=fixed), "--watch")
    assert created.code == 1 and "precision" in created.out, created.out


def test_trials_of_the_head_alone_share_a_pass_and_say_so(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    fixed = {"epochs": 2, "image_size": 16, "batch_size": 64, "frozen_layers": STAGES}
    created = thaw("--server", served.address, "study", "create", study_file("heads", fixed=fixed, budget={"trials": 8}), "--watch")
    assert created.code == 0 and len([line for line in created.out.splitlines() if ": complete, accuracy" in line]) == 8, created.out
    trials = httpx2.get(f"{served.address}/api/v1/studies/heads/trials").json()["trials"]
    assert [trial["reuse"]["lanes"] for trial in trials] == [8] * 8
    assert all(trial["reuse"]["depth"] in (0, STAGES) and trial["pace"]["shares"] for trial in trials)
    log = thaw("--server", served.address, "study", "log", "heads", "3").out.splitlines()
    assert "8 trials were trained together" in log[0]
    assert len([line for line in log if "epoch 2 of 2: 8 of 8 runs under way, best accuracy 0." in line]) == 1, log


def fingerprint_in(file: Path) -> str:
    return str(from_yaml(file.read_text())["facts"]["fingerprint"])


def answer_of_rest(address: str, document: object) -> dict[str, Any]:
    answer = httpx2.post(f"{address}/api/v1/studies", content=json.dumps(document), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    problem: dict[str, Any] = answer.json()
    return problem


@pytest.mark.parametrize(
    "changes",
    [
        {"search_space": {"lr": {"type": "float", "low": 1.0, "high": 0.1}}, "budget": {"trials": 0}},
        {"search_space": {"speed": {"type": "float", "low": 0.0, "high": 0.1}}},
        {"objective": {"metric": "loss", "direction": "maximize"}},
        {"data": {"path": "nowhere"}},
        {"fixed": {"weight_decay": float("nan"), "momentum": float("inf")}},
        {"model": {"name": "small_cnn", "weights": "digits"}},
    ],
    ids=["two", "unknown", "direction", "path", "nan", "weights"],
)
def test_a_faulty_file_gets_the_sentences_of_rest(thaw: Thaw, served: Any, study_file: StudyFile, changes: dict[str, Any]) -> None:
    file = study_file("faulty", **changes)
    said = thaw("--server", served.address, "study", "create", file)
    problem = answer_of_rest(served.address, resolve_paths(from_yaml(file.read_text()), file.parent))
    assert said.code == 2
    lines, expected = said.err.splitlines(), [f"{file}: {fault['pointer']}  {fault['detail']}" for fault in problem["errors"]]
    assert [line.partition(" (data.path is ")[0] for line in lines] == expected
    assert said.err


def test_a_folder_that_does_not_exist_is_stated_with_the_path_that_was_sent(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    file = study_file("faulty", data={"path": "nowhere"})
    said = thaw("--server", served.address, "study", "create", file)
    assert said.err == (
        f"{file}: #/data/path  the folder that data.path names does not exist on the server; correct data.path, or write "
        f"data.location: workers if only the workers can see it (data.path is {file.parent / 'nowhere'})\n"
    )


SWEEP = """\
name: from-a-sweep
data: {path: DATA, location: workers}
model: squeezenet1_1
method: random
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
run_cap: 2
"""


def test_a_sweep_of_another_tool_gets_every_line_to_write_and_the_next_try_is_accepted(thaw: Thaw, served: Any, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.replace("DATA", str(tmp_path / "nowhere")))
    said = thaw("--server", served.address, "study", "create", file)
    assert said.code == 2
    lines = re.findall("`([^`]+)`", said.err)
    assert "search_space: {lr: {type: float, low: 1.0e-05, high: 0.1, log: true}}" in lines and len(lines) == 5
    kept = [line for line in file.read_text().splitlines() if line.startswith(("name", "data"))]
    file.write_text("\n".join([*kept, *lines, "pruner: {name: asha, min_steps: 9}"]))
    created = thaw("--server", served.address, "study", "create", file)
    assert created.code == 0 and "was created" in created.out
    assert "notice: #/pruner" in created.out and "the pruner never acts" in " ".join(created.out.split())
    assert thaw("--server", served.address, "study", "delete", "from-a-sweep").code == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name: [", "not valid YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: 1\na: 2", "twice"),
        (b"- 1", "a study is a mapping"),
        (b"", "a study is a mapping"),
    ],
)
def test_a_file_that_is_no_study_says_why(thaw: Thaw, served: Any, tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    said = thaw("--server", served.address, "study", "create", tmp_path / "study.yaml")
    assert said.code == 2
    assert said.err.startswith(f"{tmp_path / 'study.yaml'}: #") and sentence in said.err


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(thaw: Thaw, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"study.{kind}"
    file.write_bytes(b"- 1\n" * 13_000_000)
    began = time.process_time()  # of this process, in which the command runs
    said = thaw("study", "create", file)
    assert said.code == 2
    assert said.err.startswith(f"{file}: #  at most ") and "shorten the document" in said.err
    assert time.process_time() - began < 10


def test_a_missing_file_is_named(thaw: Thaw, tmp_path: Path) -> None:
    said = thaw("study", "create", tmp_path / "none.yaml")
    assert (said.code, said.err) == (2, f"{tmp_path / 'none.yaml'}: #  the file cannot be read: No such file or directory\n")


def test_a_stopped_study_is_ranked_by_another_metric(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    thaw("--server", served.address, "study", "create", study_file("ranked"))
    assert thaw("--server", served.address, "study", "pause", "ranked").code == 0
    refused = thaw("--server", served.address, "study", "objective", "ranked", "f1")
    assert refused.code == 1 and "The study is paused, and its search still follows accuracy" in refused.err
    assert thaw("--server", served.address, "study", "stop", "ranked").code == 0
    assert "ranked: ranked by loss" in thaw("--server", served.address, "study", "objective", "ranked", "loss").out
    unknown = thaw("--server", served.address, "study", "objective", "ranked", "poetry")
    assert unknown.code == 1 and "#/metric  the task has no such metric" in unknown.err
    assert thaw("--server", served.address, "study", "delete", "ranked").code == 0


def test_a_study_is_paused_resumed_stopped_and_deleted(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    file = study_file("steered", fixed={"epochs": 1000, "image_size": 16, "batch_size": 64})
    assert thaw("--server", served.address, "study", "create", file).code == 0
    for word, state in (("pause", "paused"), ("resume", "active"), ("stop", "stopped")):
        assert thaw("--server", served.address, "study", word, "steered").out == f"steered: {state}\n"
    extended = thaw("--server", served.address, "study", "extend", "steered", "--trials", "5")
    assert extended.code == 0 and "steered: stopped, budget 7 trials" in extended.out and "thaw study resume steered" in extended.out
    assert thaw("--server", served.address, "study", "extend", "steered").code == 2
    assert thaw("--server", served.address, "study", "resume", "steered").out == "steered: active\n"
    taken = thaw("--server", served.address, "study", "create", file, "--replace")
    assert taken.code == 2 and taken.err.startswith(f"{file}: #/name  ") and "stop it first" in taken.err
    assert thaw("--server", served.address, "study", "stop", "steered").code == 0
    assert thaw("--server", served.address, "study", "create", file, "--replace").code == 0
    assert "steered~1" in thaw("--server", served.address, "study", "list").out
    assert thaw("--server", served.address, "study", "delete", "steered~1").code == 0
    assert thaw("--server", served.address, "study", "delete", "steered").code == 0
    gone = thaw("--server", served.address, "study", "show", "steered")
    assert (gone.code, gone.err) == (1, 'There is no study "steered".\n')


def test_without_a_result_there_is_no_best(thaw: Thaw, served: Any, study_file: StudyFile) -> None:
    thaw("--server", served.address, "study", "create", study_file("empty", fixed={"epochs": 1000, "image_size": 16}))
    said = thaw("--server", served.address, "best", "empty")
    thaw("--server", served.address, "study", "stop", "empty")
    assert said.code == 1 and "no best configuration" in said.err


def test_without_a_server_the_way_to_one_is_told(thaw: Thaw) -> None:
    said = thaw("--server", "http://127.0.0.1:9", "study", "list")
    assert said.code == 3
    assert "thaw serve" in said.err


def test_a_wrong_setting_is_named(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_TOKEN", "short")
    said = thaw("study", "list")
    assert said.code == 2 and "THAW_TOKEN" in said.err


def test_a_file_that_is_no_export_is_not_trained(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("{}")
    said = thaw("train", tmp_path / "x.yaml", "--out", tmp_path / "model")
    assert said.code == 2 and "thaw best" in said.err
