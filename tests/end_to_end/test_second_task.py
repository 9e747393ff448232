"""A task of another package goes the whole way: study, search, pruning, heads together, confirmation, export, page, CLI."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from playwright.sync_api import expect, sync_playwright
from torch import nn

from tests.serving import served

ROOT = Path(__file__).parents[2]
THAW = Path(sys.executable).parent / "thaw"
SECONDS = 600
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A table whose target lies between -30 and 90, and weights of the network's first layers."""
    folder = tmp_path_factory.mktemp("table")
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((300, 2), generator=generator) * 2 - 1
    targets = 30 + 40 * values[:, 0] - 20 * values[:, 1] + torch.randn(300, generator=generator)
    rows = [f"{a:.4f},{b:.4f},{y:.3f}" for (a, b), y in zip(values.tolist(), targets.tolist(), strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,depth", *rows]) + "\n")
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Sequential(nn.Linear(2, 8)), nn.Sequential(nn.Linear(8, 8)))
    torch.save(layers.state_dict(), folder / "perceptron.pt")
    return {
        "task": "regression",
        "data": {"path": str(folder / "table.csv"), "target": "depth", "validation": 0.2, "test": 0.2},
        "model": {"name": "perceptron", "weights": str(folder / "perceptron.pt")},
        "objective": {"metric": "r2", "direction": "maximize"},
    }


@pytest.fixture
def call(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Asks a server with a worker; the task's package is installed for all their processes."""
    installed = tmp_path / "packages" / "regression-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: regression\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[thawline.tasks]\nregression = tests.tasks.regression\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (installed.parent, ROOT))))
    monkeypatch.setenv("THAW_DATABASE_URL", database_url)
    with served(THAW, tmp_path / "thaw", workers=1) as address:
        monkeypatch.setenv("THAW_SERVER", address)

        def ask(path: str, document: Any = None) -> Any:
            body = None if document is None else json.dumps(document).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{address}{path}", body, headers)  # noqa: S310  (http)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                pytest.fail(f"{path}: {error.read().decode()}")

        yield ask


def run(*arguments: object) -> str:
    done = subprocess.run([THAW, *map(str, arguments)], env=os.environ, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(call: Call, study: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while (found := call(f"/api/v1/studies/{study}"))["state"] in ("active", "paused", "confirming"):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert isinstance(found, dict)
    return found


def look_at(path: str, browser_path: str, expected: str) -> str:
    """The text of a page once it has the expected one; the page must not report an error."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(base_url=os.environ["THAW_SERVER"])
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        expect(page.locator("main")).to_contain_text(expected, timeout=30_000)
        text = page.locator("main").inner_text()
        browser.close()
    assert complaints == []
    return text


@pytest.mark.browser
def test_heads_are_trained_together_confirmed_and_exported(call: Call, given: dict[str, Any], tmp_path: Path, browser_path: str) -> None:
    space = {"lr": {"type": "float", "low": 0.001, "high": 0.3, "log": True}}
    fixed = {"epochs": 6, "batch_size": 16, "frozen_layers": "all", "optimizer": "adam"}
    study = {**given, "name": "depths", "search_space": space, "fixed": fixed, "baseline": {"lr": 0.001}}
    call("/api/v1/studies", {**study, "budget": {"trials": 8}, "confirm": {"top": 2, "seeds": 3}})
    assert ended(call, "depths")["state"] == "complete"

    trials = call("/api/v1/studies/depths/trials?limit=100")["trials"]
    values = [trial["value"] for trial in trials]
    assert min(values) < 0 < max(values) <= 1, "R2 has no lower bound"
    assert max(trial["reuse"]["lanes"] for trial in trials) > 1, "heads were trained together"
    assert any(trial["metrics"]["rmse"] > 1 for trial in trials)
    best = call("/api/v1/studies/depths/trials/0")
    assert len(best["result"]["residuals"]) == 3

    verdict = call("/api/v1/studies/depths/confirmation")["verdict"]
    assert verdict["state"] == "done" and verdict["expected"]["low"] <= verdict["expected"]["value"] <= 1
    assert verdict["helped"] == "yes" and verdict["new_images"] is not None, "scores of single rows are compared"
    assert any("rows" in sentence for sentence in verdict["words"]) and not any("image" in sentence for sentence in verdict["words"])

    page = look_at("/studies/depths", browser_path, "Expected r2")
    assert "test rows" in page and "image" not in page.lower()

    page = look_at("/studies/depths/best", browser_path, "thaw train")
    assert "torchrun" not in page and "Python script" not in page

    file = tmp_path / "best.yaml"
    run("best", "depths", "-o", file)
    exported = yaml.safe_load(file.read_text())
    assert exported["config"]["task"] == "regression" and exported["confirmed"]["seeds"] == 3
    card = run("best", "depths", "--format", "card")
    assert "rows" in card and "image" not in card.lower()
    run("train", file, "--out", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def refused(call: Call, given: dict[str, Any]) -> None:
    """Faults are named before anything is trained."""
    study = {**given, "name": "wrong", "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 0.1}}, "budget": {"trials": 1}}
    for changes, pointer in (
        ({"data": {**given["data"], "target": "height"}}, "/data/target"),
        ({"data": {**given["data"], "path": given["data"]["path"] + "x"}}, "/data/path"),
        ({"objective": {"metric": "accuracy", "direction": "maximize"}}, "/objective/metric"),
        ({"fixed": {"image_size": 32}}, "/fixed/image_size"),
    ):
        with pytest.raises(pytest.fail.Exception, match=pointer):
            call("/api/v1/studies", {**study, **changes})


def test_whole_networks_are_trained_and_pruned(call: Call, given: dict[str, Any]) -> None:
    refused(call, given)
    space = {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}, "frozen_layers": {"type": "int", "low": 0, "high": 1}}
    pruner = {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 1}
    objective = {"metric": "rmse", "direction": "minimize"}
    study = {**given, "name": "layers", "search_space": space, "objective": objective, "pruner": pruner, "budget": {"trials": 12}}
    call("/api/v1/studies", {**study, "fixed": {"epochs": 5, "batch_size": 16}, "sampler": {"name": "random", "seed": 0}})
    ended(call, "layers")
    states = {trial["state"] for trial in call("/api/v1/studies/layers/trials?limit=100")["trials"]}
    assert states == {"complete", "pruned"}
    assert "rmse" in run("study", "show", "layers")
