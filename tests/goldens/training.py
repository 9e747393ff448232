"""A trainer process, and the results of its runs in a form that does not depend on the protocol between worker and trainer."""

import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tests.goldens.golden import BITS
from tests.goldens.releases.make import PINNED, paint, write_weights

ROOT = Path(__file__).resolve().parents[2]
MACHINE = """
import importlib.metadata, json, platform, runpy, sys, torch
versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
print(json.dumps({"processor": platform.machine(), "capability": torch.backends.cpu.get_cpu_capability(), **versions}), flush=True)
"""
"""Prints the versions and properties that results depend on."""
TRAINER = f"""{MACHINE}
sys.argv = ["trainer", *sys.argv[1:]]
runpy.run_module("trainer", run_name="__main__", alter_sys=True)
"""
NAMED = "worst_classes"  # examples by name, which tests of the targets compare
MUCH = 1e9  # epochs that a study has still to train: everything is worth storing
Line = dict[str, Any]
Config = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """A run, and the events of its life."""

    config: Config
    resume: Mapping[str, Any] | None = None  # a checkpoint, as `Result.checkpoints` has them
    pruned_after: int | None = None  # epochs
    cancelled_after: int | None = None  # epochs; leaves a checkpoint
    checkpoints: bool = False  # one after each epoch
    depths: tuple[int, int] | None = None  # frozen stages whose stored output is read, for training and validation images
    demand: Mapping[int, float] = field(default_factory=dict)
    score_test: bool = False
    model_file: str | None = None


@dataclass
class Result:
    """The lines of a run, without those about single batches."""

    lines: list[Line]

    def _all(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def epochs(self) -> dict[int, dict[str, float]]:
        return {line["step"]: line["metrics"] for line in self._all("measured")}

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        return [line["checkpoint"] for line in self._all("saved")]

    def golden(self, folder: Path) -> dict[str, Any]:
        """The part of the result that does not differ from run to run."""
        found: dict[str, Any] = {"epochs": self.epochs}
        for line in self._all("prepared"):
            reuse = line["reuse"]
            found |= {name: line[name] for name in ("parameters", "trainable")}
            found |= {"stored": [reuse["depth"], reuse["validation_depth"]], "together": reuse["lanes"]}
        for line in self._all("finished"):
            found |= {name: value for name, value in line["report"].items() if name != NAMED}
            if (test := line["test"]) is not None:
                computed = ("predicted", "losses")  # of each image, in base64
                rest = {name: value for name, value in test["report"].items() if name not in (*computed, NAMED)}
                found["test"] = {"metrics": test["metrics"], **rest, BITS: [test["report"][name] for name in computed]}
            if line["metrics"] != self.epochs.get(line["step"]):
                found["metrics"] = line["metrics"]
        for line in self._all("failed"):
            found["failed"] = [line["reason"], line["detail"], line["step"]]
        for line in self._all("stopped"):
            found["stopped"] = line["step"]
        if self.checkpoints:
            found["states"] = [_state(folder / checkpoint["path"]) for checkpoint in self.checkpoints]
        for line in self._all("exported"):
            found["model"] = _model(folder / line["path"])
        return found


class Trainer:
    """A trainer process that works in a folder, so that all paths are relative."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self.folder = process, folder
        assert process.stdout
        self.machine: dict[str, str] = json.loads(process.stdout.readline())
        self._count = 0
        self._until("ready")

    def check(self, config: Config) -> Line:
        """The facts about data and weights."""
        self._say(order="check", config=config)
        return self._until("ready")[0]

    def run(self, order: Order) -> Result:
        """The run alone."""
        self._say(order="run", **self._fields(order))
        return Result(self._followed([order])[0])

    def run_together(self, orders: Sequence[Order]) -> list[Result]:
        """The runs in one pass over the data."""
        self._say(order="lanes", runs=[{"order": "run", **self._fields(order)} for order in orders])
        return [Result(lines) for lines in self._followed(orders)]

    def _fields(self, order: Order) -> dict[str, Any]:
        self._count += 1
        steps = [step for step in (order.pruned_after, order.cancelled_after) if step is not None]
        return {
            "config": order.config,
            "decision_steps": steps,
            "checkpoint_folder": f"checkpoints/{self._count}" if order.checkpoints or order.cancelled_after else None,
            "checkpoint_seconds": 0 if order.checkpoints else 1e6,
            "resume": [] if order.resume is None else [order.resume],
            "depths": order.depths,
            "demand": order.demand,
            "score_test": order.score_test,
            "model_file": order.model_file,
        }

    def _followed(self, orders: Sequence[Order]) -> list[list[Line]]:
        """The lines of each run, whose decisions are answered."""
        found = defaultdict[int, list[Line]](list)
        while (line := self._next())["kind"] != "ready":
            lane = line.get("lane", 0)
            found[lane].append(line)
            if line["kind"] == "measured" and line["step"] == orders[lane].pruned_after:
                self._say(order="answer", lane=lane, go_on=False)
            if line["kind"] == "measured" and line["step"] == orders[lane].cancelled_after:
                self._say(order="cancel", lane=lane, save=True)
        return [found[lane] for lane in range(len(orders))]

    def _say(self, **order: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _next(self) -> Line:
        """The next line that is not about a single batch."""
        assert self._process.stdout
        for text in self._process.stdout:
            line: Line = json.loads(text)
            if line["kind"] != "advanced":
                return line
        raise AssertionError(f"the trainer ended with {self._process.wait()}")

    def _until(self, kind: str) -> list[Line]:
        lines = [self._next()]
        while lines[-1]["kind"] != kind:
            lines.append(self._next())
        return lines


def machine() -> dict[str, str]:
    """The versions and properties that results of processes with the pinned instructions depend on."""
    reported = subprocess.run([sys.executable, "-c", MACHINE], env={**os.environ, **PINNED}, capture_output=True, check=True)
    return dict(json.loads(reported.stdout))


@contextmanager
def started(folder: Path) -> Iterator[Trainer]:
    """A trainer with one thread, the cache `folder`/cache, and instructions that every processor has."""
    command = [sys.executable, "-c", TRAINER, "--threads", "1", "--device", "cpu", "--cache", "cache"]
    environment = {**os.environ, **PINNED, "PYTHONPATH": str(ROOT)}
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
        try:
            yield Trainer(process, folder)
        finally:
            process.kill()


def resumable(folder: Path) -> dict[str, Order]:
    """Runs with small checkpoints, one alone and one of a head on weights; their data and weights are made in the folder."""
    paint(folder / "squares")
    write_weights(folder / "small_cnn.safetensors", "small_cnn")
    base = {"data": {"path": "squares", "validation": 0.3}, "epochs": 3, "image_size": 16, "batch_size": 8, "optimizer": "adam", "lr": 0.01}
    models = {"alone": None, "head": "small_cnn.safetensors"}  # None: random values, as version 0.1 has them
    return {
        name: Order({**base, "model": {"name": "small_cnn", "weights": weights}, "frozen_layers": 4}, demand={4: MUCH})
        for name, weights in models.items()
    }


def _state(file: Path) -> dict[str, Any]:
    """A checkpoint: of which run it is, and its numbers."""
    content = torch.load(file, weights_only=True)
    moments = dict(_tensors("", content["optimizer"]))
    return {"run": content["run"], "step": content["step"], "model": summary(content["model"]), "optimizer": summary(moments)}


def _tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    items: Collection[tuple[object, object]] = ()
    match value:
        case Tensor():
            yield name, value
        case dict():
            items = value.items()
        case list() | tuple():
            items = [*enumerate(value)]
    for key, item in items:
        yield from _tensors(f"{name}/{key}", item)


def _model(file: Path) -> dict[str, Any]:
    """An exported model: its metadata, and its numbers."""
    with safetensors.safe_open(file, "pt") as opened:
        metadata = {name: text if name == "format" else json.loads(text) for name, text in opened.metadata().items()}
    return {"metadata": metadata, "tensors": summary(safetensors.torch.load_file(file))}


def summary(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """How many numbers there are, a digest of them with their names, and the root of the sum of their squares.

    numpy adds the squares, in one thread: torch adds them in several, and their order changes the last bits of the sum.
    """
    digest, squares = hashlib.sha256(), 0.0
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.numpy().tobytes())
        squares += float(tensor.double().square().numpy().sum())
    return {"count": sum(tensor.numel() for tensor in tensors.values()), BITS: digest.hexdigest(), "norm": sqrt(squares)}


def cache_keys(folder: Path) -> list[dict[str, Any]]:
    """Keys, types and shapes of all entries of the cache, with placeholders for what depends on the machine."""
    found = list[dict[str, Any]]()
    for file in folder.glob("*/*.tensor"):
        content = file.read_bytes()
        header, _ = json.JSONDecoder().raw_decode(content[content.index(b'{"dtype"') :].decode("latin-1"))
        text = json.dumps(header["key"], sort_keys=True, separators=(",", ":"))
        assert file.stem == hashlib.sha256(text.encode()).hexdigest(), "the digest of the key is the file's name"
        facts = header["key"]["facts"]
        facts |= {name: f"<{name}>" for name in ("torch", "torchvision", "pillow", "codecs") if name in facts}
        if header["key"]["kind"] == "features":
            facts |= {"device": [facts["device"][0], "<device>"], "decoding": [facts["decoding"][0], "<pillow>"]}
        found.append(header)
    return sorted(found, key=lambda header: json.dumps(header, sort_keys=True))
