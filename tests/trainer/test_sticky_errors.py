"""A trainer whose device cannot be used any more after an error ends; after any other error it stays. The error is raised in a step."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.host import STICKY_EXIT_CODE, is_sticky

ROOT = Path(__file__).resolve().parents[2]
TASK = """
import os
import torch
from tests.tasks.regression.task import RegressionTask

class FailingTask(RegressionTask):
    def loss(self, *arguments):
        if os.environ["ERROR_TYPE"]:
            raise eval(os.environ["ERROR_TYPE"])(os.environ["ERROR_TEXT"])
        return super().loss(*arguments)

TASK = FailingTask()
"""
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a task is installed that raises an error in its first step."""
    packages = tmp_path / "packages"
    package, facts = packages / "failing", packages / "failing-1.dist-info"
    for folder in (package, facts):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "spec.py").write_text("from tests.tasks.regression.spec import SPEC\n")
    (package / "task.py").write_text(TASK)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[thawline.tasks]\nregression = failing\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (packages, ROOT)))}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    rows = [f"{number / 50 - 1:.3f},{number % 7:.3f},{number % 5 + number / 9:.3f}" for number in range(100)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    data = {"path": str(tmp_path / "table.csv"), "target": "y", "validation": 0.2, "test": 0.2}
    return {"task": "regression", "data": data, "model": {"name": "perceptron"}, "epochs": 1}


def messages_of(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


@pytest.mark.parametrize(
    ("kind", "text", "reason", "ends"),
    [
        ("torch.AcceleratorError", ILLEGAL, "crashed", True),
        ("RuntimeError", "CUDA error: device-side assert triggered", "crashed", True),
        ("torch.AcceleratorError", "CUDA error: out of memory", "out_of_memory", False),
        ("ValueError", "a fault of the task", "crashed", False),
        ("", "", None, False),
    ],
)
def test_a_trainer_ends_after_an_error_that_leaves_its_device_unusable(
    environment: dict[str, str], config: dict[str, Any], kind: str, text: str, reason: str | None, ends: bool
) -> None:
    command = [sys.executable, "-P", "-m", "trainer", "--threads", "1", "--device", "cpu"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env={**environment, "ERROR_TYPE": kind, "ERROR_TEXT": text}, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            assert process.stdin is not None
            lines = messages_of(process)
            assert next(lines)["kind"] == "ready"
            process.stdin.write(json.dumps({"order": "run", "config": config}) + "\n")
            process.stdin.flush()
            told = list[dict[str, Any]]()
            for line in lines:
                told.append(line)
                if line["kind"] == "ready":
                    break
            failures = [line for line in told if line["kind"] == "failed"]
            assert [line["reason"] for line in failures] == ([] if reason is None else [reason])
            assert (told[-1]["kind"] == "ready") is not ends
            if ends:
                assert process.wait(60) == STICKY_EXIT_CODE
                assert text.splitlines()[0] in failures[0]["detail"]
        finally:
            process.kill()


def test_an_error_that_followed_a_sticky_one_is_sticky() -> None:
    try:
        try:
            raise torch.AcceleratorError(ILLEGAL)
        finally:
            raise KeyError("while it cleaned up")
    except KeyError as error:
        assert is_sticky(error)
    assert is_sticky(RuntimeError("HIP error: invalid device function"))
    assert not is_sticky(None) and not is_sticky(ValueError("no error of CUDA"))
    assert not is_sticky(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
