"""`thaw train` for scripts: the folders of a run, and what was in them before."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.domain.export import Exported, Origin, Reached
from service.domain.spec import Objective
from trainer.tasks.script.config import ScriptConfig, info_of

SCRIPT = """
import os, pathlib
saved = pathlib.Path(os.environ["THAW_CHECKPOINT"], "epoch")
done = int(saved.read_text()) if saved.exists() else 0
with pathlib.Path(os.environ["THAW_OUT"], "metrics.jsonl").open("a") as metrics:
    for epoch in range(done + 1, 4):
        print('{"step": %d, "score": %d}' % (epoch, epoch + 10 * done), file=metrics, flush=True)
        saved.write_text(str(epoch))
        if epoch == 1 and os.environ.get("INTERRUPTED"):
            raise SystemExit(1)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An exported script that follows a file of metrics, to which it appends."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(SCRIPT)
    config = ScriptConfig.model_validate(
        {"command": [sys.executable, "train.py"], "workdir": str(tmp_path / "code"), "metric": "score", "params": {"lr": 0.1},
         "metrics": {"file": "metrics.jsonl"}}
    )  # fmt: skip
    exported = Exported(
        note="", confirmed=None, config=config, facts=info_of(config), environment={},
        origin=Origin(study="0123456789abcdef", study_name="mine", trial=0, params={"lr": 0.1}),
        reached=Reached(objective=Objective(metric="score", direction="maximize"), value=3.0, metrics={"score": 3.0}, steps=3),
    )  # fmt: skip
    (tmp_path / "best.yaml").write_text(exported.to_yaml())
    return tmp_path / "best.yaml"


@pytest.fixture
def train(thaw: Callable[..., Any], file: Path) -> Callable[[Path], Any]:
    """Runs `thaw train` into this folder."""
    return lambda out: thaw("train", file, "--out", out, "--allow-scripts", file.parent / "code")


def test_a_second_run_does_not_read_the_metrics_of_the_first_one(train: Callable[[Path], Any], tmp_path: Path) -> None:
    assert train(tmp_path / "out").code == 0
    refused = train(tmp_path / "out")
    assert refused.code == 1 and f"{tmp_path / 'out' / 'output'} has files of another run" in refused.err
    assert (tmp_path / "out" / "output" / "metrics.jsonl").read_text().count("\n") == 3


def test_a_run_after_an_interruption_resumes_and_its_metrics_are_its_own(
    train: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERRUPTED", "1")
    assert train(tmp_path / "out").code == 1
    monkeypatch.delenv("INTERRUPTED")
    assert train(tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["reached"] == 13
    assert (tmp_path / "out" / "output" / "metrics.jsonl").read_text().splitlines()[0] == '{"step": 2, "score": 12}'
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_checkpoints_of_other_programs_are_neither_used_nor_removed(train: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "mine").mkdir(parents=True)
    (tmp_path / "checkpoint" / "mine" / "epoch").write_text("2")
    refused = train(tmp_path)
    assert refused.code == 1 and "choose another folder" in refused.err
    assert (tmp_path / "checkpoint" / "mine" / "epoch").read_text() == "2"
