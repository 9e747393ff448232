"""Makes files of the release that it runs with: `python tests/goldens/releases/make.py FOLDER OUT`.

OUT gets a database as SQL, and of studies in it an exported configuration and an exported study. It drives `thaw serve` over REST alone,
so that it also runs in a checkout of an older release. FOLDER holds data, weights and THAW_HOME; its path stands in the files, so choose
one without meaning, such as /data/golden. Takes about a minute.
"""

import hashlib
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from math import prod, sqrt
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

try:
    from trainer.tasks.images import catalogue
except ImportError:  # an earlier release
    try:
        from trainer.tasks.image_classification import catalogue  # type: ignore[attr-defined, no-redef]
    except ImportError:  # a release before the tasks
        from trainer import catalogue  # type: ignore[attr-defined, no-redef]

COLOURS = {"blue": (255, 0, 0), "green": (0, 255, 0), "red": (0, 0, 255)}  # blue, green and red, as bitmaps have them
SECONDS = 300
HOST = re.compile(rf"\b{re.escape(socket.gethostname())}(?=[-'\"])")  # in the ids and rows of workers
GOOD = {"lr": 0.001, "optimizer": "adam"}
PINNED = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
}
"""Vector instructions that every x86-64 processor has: what PyTorch computes then depends on its version, and not on the processor."""


def paint(folder: Path, count: int = 20, side: int = 20) -> None:
    """For each colour so many noisy images with a square of that tint. They are bitmaps, whose bytes follow from no library's version."""
    for colour, bgr in COLOURS.items():
        (folder / colour).mkdir(parents=True)
        for number in range(count):
            noise = hashlib.shake_256(f"{colour} {number}".encode()).digest(2 + 3 * side * side)
            left, top, pixels = noise[0] % (side // 2), noise[1] % (side // 2), bytearray(noise[2:])
            for place in (3 * ((top + row) * side + left) for row in range(side // 2)):
                tinted = zip(pixels[place : place + 3 * side // 2], cycle(bgr), strict=False)
                pixels[place : place + 3 * side // 2] = bytes((value + tint) // 2 for value, tint in tinted)
            file = struct.pack("<2sIII", b"BM", 54 + len(pixels), 0, 54)
            form = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
            (folder / colour / f"{number:02}.bmp").write_bytes(file + form + pixels)


def write_weights(file: Path, model: str) -> None:
    """Weights of a model of the catalogue that no generator of random numbers has drawn: uniform, with He's variance."""
    found = catalogue.load(model)
    shapes = {name: shape for part in (*found.stages, found.head) for name, shape in part.tensors.items()}
    safetensors.torch.save_file({name: _values(name, shape) for name, shape in shapes.items()}, file)


def _values(name: str, shape: Sequence[int]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    words = torch.frombuffer(bytearray(hashlib.shake_256(name.encode()).digest(2 * prod(shape))), dtype=torch.int16)
    drawn = words.double().view(*shape) / 2**15  # from -1 to 1
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return (1 + drawn / 2).float()
    return (drawn * sqrt(6 / prod(shape[1:] or shape))).float()


def study(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "search_space": {
            "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
            "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
        },
        "fixed": {"epochs": 3, "image_size": 16, "batch_size": 8},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "random", "seed": 0},
        "budget": {"trials": 5},
        **changes,
    }


class Server:
    """`thaw serve` and one `thaw worker` with one slot and one thread, asked over REST."""

    def __init__(self, folder: Path) -> None:
        self._environment = {**os.environ, **PINNED, "THAW_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
        self.folder = folder
        self.server = self._started("serve", "--port", "0", "--workers", "0", stdout=subprocess.PIPE)
        assert self.server.stdout
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in self.server.stdout)))
        self.address = f"{found.group()}/api/v1"
        self.worker = self._started("worker", "--slots", "1", "--cores", "1")

    def _started(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "service.cli", *arguments]
        return subprocess.Popen(command, env=self._environment, cwd=self.folder, stdout=stdout, text=True)

    def call(self, path: str, document: Any = None) -> Any:
        """The answer to a GET, or with a document to a POST."""
        return json.loads(self.read(path, document))

    def read(self, path: str, document: Any = None) -> bytes:
        """The same as it came."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"})  # noqa: S310  (http)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{path}: {error.read().decode()}") from None

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.call("/studies")
            time.sleep(0.1)

    def until_ended(self, name: str) -> None:
        self.until(lambda: self.call(f"/studies/{name}")["state"] not in ("active", "paused"))

    def kill(self) -> None:
        """Server and worker, as a power cut does."""
        for process in (self.server, self.worker):
            with process:  # waits for its end, and closes its pipe
                process.kill()


def search(server: Server, given: Mapping[str, Any]) -> None:
    """Two studies to their ends: heads trained together and confirmed; whole networks, of which some are pruned and one diverges.

    No measured time decides anything. Images are large, so that it pays in any case to store the outputs of frozen stages, from which
    rounding follows. The baseline is bad, so that it is not within the error of the best, where the cheapest configuration is recommended.
    """
    heads = {"epochs": 3, "image_size": 256, "batch_size": 8, "frozen_layers": "all"}
    confirmed = {"baseline": {"lr": 0.0001, "optimizer": "adam"}, "confirm": {"top": 1, "seeds": 2}, "budget": {"trials": 8}}
    server.call("/studies", study("heads", **given, fixed=heads, **confirmed))
    server.until_ended("heads")

    wide = {
        "lr": {"type": "float", "low": 1e-4, "high": 100.0, "log": True},
        "weight_decay": {"type": "float", "low": 1e-6, "high": 10.0, "log": True},
    }
    space = {**study("")["search_space"], **wide}
    pruner = {"name": "median", "n_startup_trials": 2}
    server.call("/studies", study("curves", **given, search_space=space, budget={"trials": 8}, pruner=pruner))
    server.call("/studies/curves/pause", {})
    good = {**GOOD, "weight_decay": 1e-6}
    diverging = {"lr": 100.0, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 10.0}
    for params in ({**good, "lr": 0.0003}, diverging, good, {**good, "lr": 0.1}, {**good, "lr": 0.0001}):
        server.call("/studies/curves/trials", {"params": params})
    server.call("/studies/curves/trials/4/cancel", {})
    server.call("/studies/curves/resume", {})
    server.until_ended("curves")


def leave_open(server: Server, given: Mapping[str, Any]) -> None:
    """A study that is stopped, one that is paused, and one whose trial runs."""
    server.call("/studies", study("stopped", **given))
    server.until(lambda: server.call("/studies/stopped")["counts"]["complete"] > 0)
    server.call("/studies/stopped/stop", {})

    server.call("/studies", study("paused", **given))
    server.call("/studies/paused/pause", {})
    long = {"epochs": 5000, "image_size": 256, "batch_size": 8, "frozen_layers": 1}
    server.call("/studies", study("under-way", **given, fixed=long, limits={"checkpoint_seconds": 0}))
    server.call("/studies/under-way/trials", {"params": GOOD})
    server.until(lambda: server.call("/studies/under-way/trials?state=running")["trials"] != [])
    server.until(lambda: server.call("/studies/under-way/trials?state=running")["trials"][0]["step"] > 1)


def prepared(folder: Path) -> dict[str, Any]:
    """The data and the model of the studies, whose files are made in the folder."""
    paint(folder / "squares")
    write_weights(folder / "weights.safetensors", "small_cnn")
    data = {"path": str(folder / "squares"), "validation": 0.3, "test": 0.2}
    return {"data": data, "model": {"name": "small_cnn", "weights": str(folder / "weights.safetensors")}}


def main(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    given, server = prepared(folder), Server(folder)
    try:
        search(server, given)
        leave_open(server, given)
        for name, path in (("best.yaml", "/studies/heads/best?format=yaml"), ("study.jsonl", "/studies/curves/export")):
            (out / name).write_text(HOST.sub("box", server.read(path).decode()))
    finally:
        server.kill()
    with sqlite3.connect(folder / "home" / "thawline.db") as connection:
        revision = connection.execute("SELECT version_num FROM thaw_schema").fetchone()[0]
        lines = HOST.sub("box", "\n".join(connection.iterdump()))
    (out / "database.sql").write_text(f"-- Schema {revision}, made by tests/goldens/releases/make.py; not to be changed.\n{lines}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
