"""Fine-tuning by LoRA through the service: a trial whose processes are killed ends as one that is left alone, bit for bit."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

from tests.processes import below
from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"
SECONDS = 300
LAYERS = 2  # that are adapted
LORA = {"method": "lora", "lora_layers": LAYERS, "lora_dropout": 0.1, "lora_r": 4, "batch_size": 8, "precision": "float32"}
COMMON = {
    "search_space": {"lr": {"type": "categorical", "choices": [0.001]}},
    "objective": {"metric": "loss", "direction": "minimize"},
    "budget": {"trials": 1},
    "limits": {"checkpoint_seconds": 0},
}
Call = Callable[..., Any]


@dataclass(frozen=True)
class Subject:
    """A study, and what is known of its model."""

    document: dict[str, Any]
    weights: Path
    stages: int
    head: set[str]  # names of its tensors in the weights

    @property
    def epochs(self) -> int:
        return int(self.document["fixed"]["epochs"])


@pytest.fixture(params=["images", "texts", "texts on PostgreSQL"])
def subject(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.delenv("THAW_DATABASE_URL", raising=False)  # the embedded database
    if request.param == "texts on PostgreSQL":
        monkeypatch.setenv("THAW_DATABASE_URL", request.getfixturevalue("empty_postgresql"))
    return images(tmp_path) if request.param == "images" else texts(tmp_path, request.getfixturevalue("shared_data"))


def texts(tmp_path: Path, shared_data: Path) -> Subject:
    """Few texts of two labels, and a MiniLM."""
    random = np.random.default_rng(0)
    words = {"good": ["fine", "nice", "great"], "bad": ["poor", "awful", "weak"]}
    rows = [f"{' '.join(random.choice([*words[label], 'tea', 'is', str(n)], 6))},{label}" for n in range(30) for label in words]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    folder = shared_data / "weights" / "minilm-l6-v2"
    document = {
        "task": "text_classification", "data": {"path": str(tmp_path / "texts.csv"), "validation": 0.3}, "model": {"name": str(folder)},
        "fixed": {**LORA, "max_length": 16, "epochs": 30}, **COMMON,
    }  # fmt: skip
    return Subject(document, folder / "model.safetensors", 7, {"pooler.dense.weight", "pooler.dense.bias"})


def images(tmp_path: Path) -> Subject:
    """Few small images of two colours, and weights of a Swin with random values."""
    random = np.random.default_rng(0)
    for place, colour in enumerate(("green", "red")):
        folder = tmp_path / "squares" / colour
        folder.mkdir(parents=True)
        for number in range(10):
            pixels = np.clip(random.normal(110, 40, (32, 32, 3)), 0, 255)
            pixels[8:24, 8:24, place] = 220
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(get_model("swin_t").state_dict(), tmp_path / "swin_t.safetensors")
    weights = tmp_path / "swin_t.safetensors"
    document = {
        "data": {"path": str(tmp_path / "squares"), "validation": 0.3}, "model": {"name": "swin_t", "weights": str(weights)},
        "fixed": {**LORA, "image_size": 32, "epochs": 30}, **COMMON,
    }  # fmt: skip
    return Subject(document, weights, 13, {"norm.weight", "norm.bias", "head.weight", "head.bias"})


@pytest.fixture
def call(tmp_path: Path, subject: Subject) -> Iterator[Call]:
    """Asks a server with a worker, on the subject's database."""
    with served(THAW, tmp_path / "thaw", workers=1) as address:

        def ask(path: str, document: Any = None) -> Any:
            body = None if document is None else json.dumps(document).encode()
            request = urllib.request.Request(f"{address}/api/v1/studies{path}", body, {"Content-Type": "application/json"})  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                pytest.fail(f"{path}: {error.read().decode()}")

        yield ask


def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not in {SECONDS} s: {what}"
        time.sleep(0.02)


def trial_of(call: Call, study: str) -> dict[str, Any]:
    found = call(f"/{study}/trials")["trials"]
    return dict(found[0]) if found else {"step": 0, "attempt": 0, "state": "queued"}


def trainers() -> list[int]:
    """The trainer processes below this one."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below(os.getpid())}
    return [pid for pid, words in commands.items() if b"\0-m\0trainer\0" in words]


@pytest.mark.slow
def test_a_trial_whose_trainer_is_killed_ends_as_one_that_is_left_alone(call: Call, subject: Subject, tmp_path: Path) -> None:
    for name in ("alone", "killed"):
        call("", {**subject.document, "name": name})
        if name == "killed":
            until(lambda: 2 <= trial_of(call, "killed")["step"] < subject.epochs, "the trial is under way")
            found = trainers()
            assert found
            for trainer in found:
                os.kill(trainer, signal.SIGKILL)
        until(lambda name=name: call(f"/{name}")["state"] not in ("active", "confirming"), "the study ends")  # type: ignore[misc]
    alone, killed = (trial_of(call, name) for name in ("alone", "killed"))
    assert (alone["state"], alone["attempt"]) == (killed["state"], killed["attempt"] - 1) == ("complete", 1)
    assert alone["seed"] == killed["seed"]
    assert alone["reuse"]["depth"] == killed["reuse"]["depth"] == subject.stages - LAYERS
    one, other = (call(f"/{name}/trials/0/metrics") for name in ("alone", "killed"))
    assert one == other and f'"step": {subject.epochs}' in json.dumps(one)
    checkpoints = [torch.load(newest(tmp_path, call(f"/{name}")["id"]), weights_only=True)["model"] for name in ("alone", "killed")]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    assert all(torch.equal(tensor, checkpoints[1][name]) for name, tensor in checkpoints[0].items())
    base = load_file(subject.weights)
    weights = {name for name in (name.removeprefix("bert.") for name in checkpoints[0]) if name in base and base[name].is_floating_point()}
    assert weights == subject.head, "and no weights of the stages"


def newest(folder: Path, study: str) -> Path:
    """The last checkpoint of the study's only trial."""
    return max((folder / "thaw" / "checkpoints" / study).rglob("epoch-*.pt"))
