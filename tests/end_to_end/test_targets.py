"""Image regression on real counts, and labels of images and real texts, go the whole way over SQLite: search, export, training again."""

import csv
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"
SECONDS = 600
Call = Callable[..., Any]
FIXED = {"epochs": 4, "batch_size": 32, "image_size": 64, "frozen_layers": "all", "optimizer": "adam"}
SPACE = {"lr": {"type": "float", "low": 1e-4, "high": 0.03, "log": True}}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Asks a server with a worker, on its embedded database."""
    monkeypatch.delenv("THAW_DATABASE_URL", raising=False)
    with served(THAW, tmp_path / "thaw", workers=1) as address:
        monkeypatch.setenv("THAW_SERVER", address)

        def ask(path: str, document: Any = None) -> Any:
            body = None if document is None else json.dumps(document).encode()
            request = urllib.request.Request(f"{address}{path}", body, {"Content-Type": "application/json"})  # noqa: S310  (http)
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)

        yield ask


@pytest.fixture
def model(shared_data: Path) -> dict[str, str]:
    return {"name": "squeezenet1_1", "weights": str(shared_data / "weights" / "squeezenet1_1-imagenet-features.safetensors")}


def run(*arguments: object) -> str:
    done = subprocess.run([THAW, *map(str, arguments)], env=os.environ, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(call: Call, study: dict[str, Any]) -> dict[str, Any]:
    """The study once it has ended."""
    call("/api/v1/studies", study)
    deadline = time.monotonic() + SECONDS
    while (found := call(f"/api/v1/studies/{study['name']}"))["state"] in ("active", "paused", "confirming"):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found["state"] == "complete", found
    assert isinstance(found, dict)
    return found


def test_blood_cells_are_counted(call: Call, model: dict[str, str], shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "vision" / "bccd" / "counts.csv"
    study = {
        "name": "cells", "task": "image_regression", "data": {"path": str(table), "validation": 0.2, "test": 0.2}, "model": model,
        "search_space": {**SPACE, "loss": {"type": "categorical", "choices": ["mse", "l1", "huber"]}}, "fixed": FIXED,
        "baseline": {"lr": 1e-3, "loss": "mse"}, "objective": {"metric": "rmse", "direction": "minimize"},
        "budget": {"trials": 6}, "confirm": {"top": 1, "seeds": 3},
    }  # fmt: skip
    found = ended(call, study)
    assert sum(found["facts"]["images"].values()) == 364 and 0 < found["facts"]["numbers"]["train"]["std"] < 10
    assert "gives rmse" in found["majority"]["sentence"]
    trials = call("/api/v1/studies/cells/trials?limit=100")["trials"]
    assert max(trial["reuse"]["lanes"] for trial in trials) > 1, "heads were trained together, with different losses"
    assert {trial["params"]["loss"] for trial in trials} == {"mse", "l1", "huber"}
    best = call(f"/api/v1/studies/cells/trials/{found['best']['number']}")
    assert len(best["result"]["residual_quantiles"]) == 5 and best["result"]["worst_numbers"][0]["name"].startswith("JPEGImages/")
    verdict = call("/api/v1/studies/cells/confirmation")["verdict"]
    assert verdict["state"] == "done" and verdict["new_images"]["low"] < verdict["expected"]["value"] < verdict["new_images"]["high"]
    file = tmp_path / "best.yaml"
    run("best", "cells", "-o", file)
    exported = yaml.safe_load(file.read_text())
    assert exported["config"]["task"] == "image_regression" and len(exported["residuals"]["quantiles"]) == 5
    card = run("best", "cells", "--format", "card")
    assert "Image regression, one number for each of the images." in card and "## Residuals" in card and "class" not in card.lower()
    run("train", file, "--out", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_colours_are_labelled(call: Call, model: dict[str, str], tmp_path: Path) -> None:
    folder, random = tmp_path / "colours", np.random.default_rng(0)
    folder.mkdir()
    names, rows = ("blue", "green", "red"), ["path;target"]
    for number in range(120):
        own = [place for place, share in enumerate((0.3, 0.4, 0.6)) if random.random() < share]
        pixels = random.normal(110, 30, (32, 32, 3))
        for place in own:
            top, left = 16 * (place // 2), 16 * (place % 2)
            pixels[top : top + 16, left : left + 16] = [220 if channel == 2 - place else 40 for channel in range(3)]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png;{','.join(names[place] for place in own)}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    study = {
        "name": "colours", "task": "image_multilabel", "model": model,
        "data": {"path": str(folder / "table.csv"), "label_separator": ",", "validation": 0.2, "test": 0.2},
        "search_space": {**SPACE, "pos_weight": {"type": "categorical", "choices": ["none", "balanced"]}}, "fixed": FIXED,
        "objective": {"metric": "auroc", "direction": "maximize"}, "budget": {"trials": 4}, "confirm": {"top": 1, "seeds": 3},
    }  # fmt: skip
    found = ended(call, study)
    assert found["facts"]["labels"] == ["blue", "green", "red"] and found["best"]["value"] > 0.8
    best = call(f"/api/v1/studies/colours/trials/{found['best']['number']}")
    assert list(best["result"]["per_label"]) == ["blue", "green", "red"]
    verdict = call("/api/v1/studies/colours/confirmation")["verdict"]
    assert verdict["state"] == "done" and verdict["new_images"] is not None, "scores of single images are compared"
    file = tmp_path / "best.yaml"
    run("best", "colours", "-o", file)
    exported = yaml.safe_load(file.read_text())
    assert exported["by_label"].keys() == {"blue", "green", "red"} and 0 < exported["threshold"] < 1
    card = run("best", "colours", "--format", "card")
    assert "Image multi-label classification, 3 labels: blue, green, red." in card and "## Label by label" in card
    run("train", file, "--out", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_emotions_of_texts_are_labelled(call: Call, shared_data: Path, tmp_path: Path) -> None:
    """Of goemotions those of the first texts that have labels of the most frequent ones alone."""
    frequent = {"neutral", "admiration", "approval", "annoyance", "gratitude", "amusement"}
    with (shared_data / "text" / "goemotions" / "train.csv").open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if set(row["labels"].split("|")) <= frequent][:300]
    assert any("|" in row["labels"] for row in rows)
    table = tmp_path / "emotions.csv"
    with table.open("w", newline="") as written:
        writer = csv.DictWriter(written, ("text", "labels"))
        writer.writeheader()
        writer.writerows(rows)
    study = {
        "name": "emotions", "task": "text_multilabel", "model": {"name": str(shared_data / "weights" / "minilm-l6-v2")},
        "data": {"path": str(table), "target": "labels", "validation": 0.25, "test": 0.2},
        "search_space": {"lr": {"type": "float", "low": 3e-4, "high": 3e-3, "log": True}},
        "fixed": {"method": "lora", "lora_layers": 2, "max_length": 24, "epochs": 2, "pooling": "mean", "pos_weight": "balanced"},
        "objective": {"metric": "average_precision", "direction": "maximize"}, "budget": {"trials": 2}, "limits": {"lanes": 1},
    }  # fmt: skip
    found = ended(call, study)
    assert set(found["facts"]["labels"]) == frequent and found["best"]["value"] > 0.4, "1 label of 6 is right by chance"
    best = call(f"/api/v1/studies/emotions/trials/{found['best']['number']}")
    assert best["reuse"]["depth"] == 5 and list(best["result"]["per_label"]) == sorted(frequent)
    file = tmp_path / "best.yaml"
    run("best", "emotions", "-o", file)
    exported = yaml.safe_load(file.read_text())
    assert exported["reached"]["value"] == found["best"]["value"] and exported["by_label"].keys() == frequent
    run("train", file, "--out", tmp_path / "model")
    again = json.loads((tmp_path / "model" / "result.json").read_text())
    assert again["equal"] and again["metrics"] == exported["reached"]["metrics"], "to the last digit"
    assert (tmp_path / "model" / "huggingface" / "model.safetensors").is_file()
