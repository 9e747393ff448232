"""The whole way on real data: a study POSTed over REST, two workers, the best exported, trained to the same figure."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"
MINUTES = 12
EXPORT_PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def study(data: Path) -> dict[str, Any]:
    return {
        "name": "sign-digits",
        "task": "image_classification",
        "data": {"path": str(data / "sign-digits"), "validation": 0.2, "test": 0.2},
        "model": {"name": "squeezenet1_1", "weights": str(data / "weights" / "squeezenet1_1-imagenet-features.safetensors")},
        "search_space": {
            "lr": {"type": "float", "low": 1e-4, "high": 2e-3, "log": True},
            "optimizer": {"type": "categorical", "choices": ["adam", "adamw", "sgd"]},
            "momentum": {"type": "float", "low": 0.5, "high": 0.95, "when": {"optimizer": ["sgd"]}},
            "frozen_layers": {"type": "int", "low": 0},
        },
        "fixed": {"epochs": 5, "image_size": 64, "batch_size": 32, "schedule": "cosine", "warmup_fraction": 0.1},
        "baseline": {"lr": 5e-4, "optimizer": "adam", "frozen_layers": 0},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "tpe", "seed": 0, "n_startup_trials": 4},
        "pruner": {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 1},
        "budget": {"trials": 12},
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "thaw"


@pytest.fixture
def server(home: Path) -> Iterator[str]:
    with served(THAW, home, workers=2) as address:
        yield address


def call(url: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def ended(studies: str) -> dict[str, Any]:
    """The study once it has ended; what its trials were doing if it does not in time."""
    deadline = time.monotonic() + 60 * MINUTES
    while time.monotonic() < deadline:
        found: dict[str, Any] = call(f"{studies}/sign-digits")
        if found["state"] not in ("active", "paused"):
            return found
        time.sleep(1)
    pytest.fail(f"the study did not end in {MINUTES} minutes: {call(f'{studies}/sign-digits/trials')}")


def predicted_by_the_documented_lines(folder: Path, image: Path) -> str:
    """What the Python lines of docs/export.md print for the image; they read the model from `folder`."""
    [lines] = re.findall(r"```python\n(.*?)```", EXPORT_PAGE.read_text(), re.DOTALL)
    printed = list[str]()
    with contextlib.chdir(folder):
        exec(lines.replace("photo.jpg", str(image)), {"print": printed.append})  # noqa: S102 - the documentation's own lines
    return printed[-1]


@pytest.mark.slow
def test_a_study_on_sign_digits_ends_with_95_per_cent_and_its_export_trains_to_the_same_figure(
    server: str, home: Path, shared_data: Path, tmp_path: Path
) -> None:
    studies = f"{server}/api/v1/studies"
    created = call(studies, study(shared_data))
    assert created["state"] == "active"

    done = ended(studies)
    trials = call(f"{studies}/sign-digits/trials?limit=500")["trials"]
    assert done["state"] == "complete", done
    assert sorted(trial["number"] for trial in trials) == list(range(12))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}, trials
    assert len({trial["worker"] for trial in trials if trial["worker"]}) == 2
    assert done["best"]["value"] >= 0.95

    exported = call(f"{studies}/sign-digits/best?format=json")
    assert exported["reached"]["value"] == done["best"]["value"]
    (tmp_path / "best.json").write_text(json.dumps(exported))
    train: list[str | Path] = [THAW, "train", tmp_path / "best.json", "--out", tmp_path / "model"]
    trained = subprocess.run(train, capture_output=True, text=True, timeout=60 * MINUTES, env={**os.environ, "THAW_HOME": str(home)})
    assert trained.returncode == 0, trained.stdout + trained.stderr
    result = json.loads((tmp_path / "model" / "result.json").read_text())
    assert result["metrics"]["accuracy"] == exported["reached"]["value"]
    assert result["metrics"] == exported["reached"]["metrics"]
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 2_000_000

    images = sorted((shared_data / "sign-digits").glob("*/*"))[::40]
    right = [predicted_by_the_documented_lines(tmp_path, image) == image.parent.name for image in images]
    assert len(right) > 40 and sum(right) >= 0.9 * len(right)
