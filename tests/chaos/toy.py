"""A trainer for the fault suite: no torch, a step of a few milliseconds, a loss that follows from the parameters alone.

It speaks the contract's lines and keeps its checkpoints as the real one does: by `trainer.files`, read only when their SHA-256 is right.
Run as `python toy.py [--step SECONDS] [--epochs-per-checkpoint N]`; a checkpoint is one line of JSON.
"""

import argparse
import ctypes
import errno
import hashlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from trainer import files

FACTS = {
    "classes": ["a", "b"], "images": {"train": 8, "validation": 2, "test": 0},
    "fingerprint": "f" * 64, "split": "e" * 64, "weights_sha256": None,
}  # fmt: skip
AT_THE_END = {"per_class_recall": {"a": 1.0}, "confusion_matrix": [[1, 0], [0, 1]], "train_seconds": 0.1, "peak_memory": 1}
PR_SET_PDEATHSIG = 1
TOY_FAULTS = "THAW_CHAOS_TOY_FAULTS"  # modules with an `install()` that puts a scenario's own hooks into the toy


class Orders:
    """Standard input, line by line; its end is ours."""

    def __init__(self) -> None:
        self.buffer = b""

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        while b"\n" not in self.buffer:
            if not select.select([0], [], [], timeout)[0]:
                return None
            if not (chunk := os.read(0, 65_536)):
                os._exit(0)
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order


def tell(kind: str, **fields: Any) -> None:
    os.write(1, (json.dumps({"kind": kind, **fields}) + "\n").encode())


def metrics_of(config: dict[str, Any], step: int) -> dict[str, float]:
    """The same for the same parameters and step, whoever computes it."""
    return {"accuracy": 1 - 1 / (1 + step + config["lr"]), "loss": 1 / (step + config["lr"])}


def run(order: dict[str, Any], orders: Orders, step_seconds: float, every: int) -> None:
    """One trial, from its newest sound checkpoint."""
    config = order["config"]
    done = restored(order["resume"])
    tell("prepared", facts=FACTS, parameters=2, trainable=1, environment={"device": "toy", "threads": "1"})
    for step in range(done + 1, config["epochs"] + 1):
        if (word := orders.next(step_seconds)) is not None:
            if word["order"] == "cancel" and word["save"] and step > 1:
                save(order, step - 1)
            return tell("stopped", step=step - 1)
        sys.stderr.write(f"epoch {step}: loss {metrics_of(config, step)['loss']:.6f}\n")
        tell("advanced", epoch=step, batch=1, batches=1, samples_per_second=1.0)
        tell("measured", step=step, metrics=metrics_of(config, step))
        if step in order["decision_steps"]:
            answer = orders.next(None)
            if answer is None or answer["order"] == "cancel" or not answer["go_on"]:
                return tell("stopped", step=step)
        if step % every == 0:
            save(order, step)
    return tell("finished", step=config["epochs"], metrics=metrics_of(config, config["epochs"]), **AT_THE_END)


def restored(checkpoints: list[dict[str, Any]]) -> int:
    """The step of the newest checkpoint that is what was written; 0 without one."""
    for checkpoint in sorted(checkpoints, key=lambda one: -one["step"]):
        try:
            content = Path(checkpoint["path"]).read_bytes()
        except OSError as error:
            content, fault = b"", str(error)
        else:
            fault = "its SHA-256 differs"
        if hashlib.sha256(content).hexdigest() == checkpoint["sha256"]:
            return int(json.loads(content)["step"])
        sys.stderr.write(f"checkpoint {checkpoint['path']} is passed over: {fault}\n")
    return 0


def save(order: dict[str, Any], step: int) -> None:
    folder = Path(order["checkpoint_folder"])
    path, content = folder / f"epoch-{step:06}.json", json.dumps({"step": step, "lr": order["config"]["lr"]}).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < int(os.environ.get("THAW_DISK_FLOOR_BYTES", "0")):
            raise OSError(errno.ENOSPC, "the disk is below its floor")
        sha256 = files.write(path, lambda file: file.write(content))
    except OSError as error:  # as the real one: the run goes on without
        sys.stderr.write(f"checkpoint after epoch {step} is skipped: {error}\n")
        return
    tell("saved", checkpoint={"step": step, "path": str(path), "sha256": sha256, "size": len(content)})


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--step", type=float, default=0.02)
    options.add_argument("--epochs-per-checkpoint", type=int, default=1)
    given = options.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for name in filter(None, os.environ.get(TOY_FAULTS, "").split(",")):
        importlib.import_module(name).install()
    orders = Orders()
    tell("ready")
    while True:
        order = orders.next(None)
        assert order is not None
        if order["order"] == "check":
            tell("checked", facts=FACTS)
        elif order["order"] == "run":
            run(order, orders, given.step, given.epochs_per_checkpoint)
        else:
            continue
        tell("ready")


if __name__ == "__main__":
    main()
