"""A trainer that trains nothing: it speaks the contract's lines, starts in no time, and misbehaves as its learning rate says.

Run as `python toy_trainer.py [--slow-epoch SECONDS] [--deaf] [--no-start] [--greet] [--bad-device ID --how HOW --while FILE]
[--device-memory BYTES] [--takes-turns FILE] [--alone FILE]`.
"""

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
BEHAVIOURS = (
    "train", "hang", "crash", "segfault", "spew", "quit", "bad_data", "stubborn", "fork", "kill_parent", "killed", "rant", "nan", "endless",
    "diverge", "mute", "starve", "talk", "babble", "flood", "peak",
    "poison", "crowd",
)  # fmt: skip


def lr_of(behaviour: str) -> float:
    """The learning rate that makes the toy behave so."""
    return (BEHAVIOURS.index(behaviour) + 1) / 100


def behaviour_of(config: dict[str, Any]) -> str:
    place = round(config["lr"] * 100) - 1
    return BEHAVIOURS[place] if 0 <= place < len(BEHAVIOURS) else "train"


class Orders:
    """Standard input, line by line, with a look that does not wait."""

    def __init__(self) -> None:
        self.buffer = b""

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        while b"\n" not in self.buffer:
            if not select.select([0], [], [], timeout)[0]:
                return None
            if not (chunk := os.read(0, 65_536)):
                sys.exit(0)
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order


def tell(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


FACTS = {
    "classes": ["a", "b"], "images": {"train": 8, "validation": 2, "test": 0},
    "fingerprint": "f" * 64, "split": "e" * 64, "weights_sha256": None,
}  # fmt: skip

MEASURED_AT_THE_END = {"per_class_recall": {"a": 1.0}, "confusion_matrix": [[1, 0], [0, 1]], "train_seconds": 0.1, "peak_memory": 1}


def misbehave(how: str) -> None:
    """What goes wrong in the middle of the second epoch."""
    if how in MISDEEDS:
        MISDEEDS[how]()


def misbehave_each_epoch(how: str, step: int) -> None:
    if how == "talk":
        sys.stderr.write(f"epoch {step} of trial\n")
    if how == "mute":
        time.sleep(600)


def crash() -> None:
    raise RuntimeError("the toy broke")


def sleep_through_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def print_noise(lines: int) -> None:
    for _ in range(lines):
        sys.stdout.write("noise that is no line of the contract\n")
    sys.stdout.flush()


def leave_a_child() -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os._exit(4)


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def babble() -> None:
    os.write(2, b"\x1b[31mred\x1b[0m, not \xed\xa0\x80, said " + os.environ["THE_TOYS_TOKEN"].encode() + b" and \x1b]0;title\x07\x00\n")
    os.write(2, b"at http://user:hunter2@host\n 50 %\r100 %\r\n")
    os.write(1, b"no line of the contract\n")
    os.write(2, b"a line that has no end")


def poison() -> None:
    tell("failed", reason="crashed", detail="AcceleratorError: CUDA error: an illegal memory access was encountered", step=1)
    os._exit(70)


def flood() -> None:
    for _ in range(5 * 2**20 // 64):
        sys.stderr.write(63 * "x" + "\n")
    sys.stderr.write("the last word of the flood\n")
    sys.stderr.flush()


MISDEEDS = {
    "babble": babble,
    "flood": flood,
    "poison": poison,
    "hang": lambda: time.sleep(600),
    "stubborn": sleep_through_sigterm,
    "crash": crash,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "spew": lambda: print_noise(20_000),
    "rant": lambda: print_noise(10**12),
    "quit": lambda: os._exit(3),
    "fork": leave_a_child,
    "kill_parent": kill_parent,
}


class Gpu:
    """What the toy shares with other toys on its device, by locks on files."""

    def __init__(self, device_memory: int | None, takes_turns: str | None, alone: str | None) -> None:
        self.finished = MEASURED_AT_THE_END | ({} if device_memory is None else {"device_memory": device_memory})
        self.takes_turns, self.alone = takes_turns, alone

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One epoch after the other, if they take turns."""
        with open(self.takes_turns or os.devnull, "a") as file:
            if self.takes_turns:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def memory(self) -> Iterator[bool]:
        """Whether there is memory for the run: not if it has to be alone on the device and another run is there."""
        with open(self.alone or os.devnull, "a") as file:
            try:
                if self.alone:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True


def run(order: dict[str, Any], orders: Orders, slow_epoch: float, gpu: Gpu) -> None:
    with gpu.memory() as is_enough:
        if is_enough:
            train(order, orders, slow_epoch, gpu)
        else:
            tell("failed", **STARVED, device_bytes=8 * 10**9, crowded=True)


def train(order: dict[str, Any], orders: Orders, slow_epoch: float, gpu: Gpu) -> None:
    config, how = order["config"], behaviour_of(order["config"])
    if unmounted(config):
        return tell("unavailable", **missing(config))
    hang_on_a_dead_mount(config)
    resumed = order["resume"][0]["step"] if order["resume"] else 0
    epochs = epochs_of(config)
    share = {} if order.get("device_share") is None else {"share": str(order["device_share"])}
    tell("prepared", facts=FACTS, parameters=2, trainable=1, environment={"device": "toy", "threads": "1", **share})
    if how == "bad_data":
        return tell("failed", reason="bad_data", detail="the toy refuses its data at http://toy:swordfish@host/", step=0)
    for step in range(resumed + 1, epochs + 1):
        with gpu.turn():
            cancel = orders.next(slow_epoch)
        if cancel is not None:
            return stop(order, cancel, step - 1)
        if step == resumed + 2:
            misbehave(how)
            if how in STARVED_HOW:
                return tell("failed", **STARVED, **STARVED_HOW[how])
        metrics = metrics_of(config, step)
        misbehave_each_epoch(how, step)
        tell("advanced", epoch=step, batch=1, batches=1, samples_per_second=1.0)
        tell("measured", step=step, metrics=metrics)
        if step in order["decision_steps"]:
            answer = orders.next(None)
            if answer is None or answer["order"] == "cancel" or not answer["go_on"]:
                return tell("stopped", step=step)
        if order["checkpoint_seconds"] == 0:
            save(order, step)
    tell("finished", step=epochs, metrics=metrics, **gpu.finished)
    return None


def hang_on_a_dead_mount(config: dict[str, Any]) -> None:
    path = config["data"]["path"]
    if os.path.basename(path) == "dead-mount" and not os.path.exists(path):
        time.sleep(600)


def check(config: dict[str, Any]) -> None:
    hang_on_a_dead_mount(config)
    if unmounted(config):
        tell("unavailable", **missing(config))
    elif "unfit" in config["data"]["path"]:
        tell("failed", reason="bad_data", detail="class b has no image", step=0)
    elif "crashing" in config["data"]["path"]:
        os._exit(5)
    else:
        tell("checked", facts=FACTS)


def run_pass(order: dict[str, Any], orders: Orders, slow_epoch: float) -> None:
    """The lanes, or what is missing, told by each of them."""
    if not unmounted(order["runs"][0]["config"]):
        return run_lanes(order, orders, slow_epoch)
    for lane, one in enumerate(order["runs"]):
        tell("unavailable", lane=lane, **missing(one["config"]))
    return None


def run_lanes(order: dict[str, Any], orders: Orders, slow_epoch: float) -> None:
    """All runs in step; each ends by itself."""
    lanes = dict(enumerate(order["runs"]))
    for lane in lanes:
        reuse = {"pixels": "decoded", "lanes": len(lanes)}
        tell("prepared", lane=lane, facts=FACTS, parameters=2, trainable=1, environment={"device": "toy", "threads": "1"}, reuse=reuse)
    step = 0
    while lanes:
        if (word := orders.next(slow_epoch)) is not None:
            end_lanes(lanes, word, step)
            continue
        step += 1
        if step == 2:
            misbehave_together(lanes)
        tell("advanced", epoch=step, batch=1, batches=1, samples_per_second=1.0)
        sys.stderr.write(f"epoch {step} of the pass\n")
        for lane, run in lanes.items():
            if behaviour_of(run["config"]) == "mute":
                time.sleep(600)
            tell("measured", lane=lane, step=step, metrics=metrics_of(run["config"], step), pace=PACE)
        await_answers(lanes, orders, step)
        for lane in [lane for lane, run in lanes.items() if run["checkpoint_seconds"] == 0]:
            save(lanes[lane], step, lane)
        for lane in [lane for lane, run in lanes.items() if step == epochs_of(run["config"])]:
            tell("finished", lane=lane, step=step, metrics=metrics_of(lanes.pop(lane)["config"], step), **MEASURED_AT_THE_END)


def unmounted(config: dict[str, Any]) -> bool:
    """Whether the data's path names a mount and there is nothing."""
    path = config["data"]["path"]
    return os.path.basename(path) == "mount" and not os.path.exists(path)


def missing(config: dict[str, Any]) -> dict[str, Any]:
    path = config["data"]["path"]
    return {"what": "data", "detail": f"there is no folder {path} for swordfish", "paths": [path]}


def misbehave_together(lanes: dict[int, dict[str, Any]]) -> None:
    if any(behaviour_of(run["config"]) == "starve" for run in lanes.values()):
        for lane in lanes:
            tell("failed", lane=lane, **STARVED)
        return lanes.clear()
    for lane, how in [(lane, behaviour_of(run["config"])) for lane, run in lanes.items()]:
        misbehave(how)
        if how == "diverge":
            tell("failed", lane=lane, reason="diverged", detail="the toy's loss was nan", step=1)
            del lanes[lane]
    return None


def await_answers(lanes: dict[int, dict[str, Any]], orders: Orders, step: int) -> None:
    undecided = {lane for lane, run in lanes.items() if step in run["decision_steps"]}
    while undecided:
        word = orders.next(None)
        assert word is not None
        undecided -= {word["lane"]} if word["lane"] is not None else set(undecided)
        end_lanes(lanes, word, step)


STARVED_HOW: dict[str, dict[str, Any]] = {"starve": {}, "crowd": {"device_bytes": 8 * 10**9, "crowded": True}}
STARVED = {"reason": "out_of_memory", "detail": "the toy has no memory left", "step": 1}
PACE = {"samples_per_second": 8.0, "seconds_left": 1.0, "memory": 1, "seconds": {"forward": 0.5}}


def end_lanes(lanes: dict[int, dict[str, Any]], word: dict[str, Any], step: int) -> None:
    """Those that the word ends."""
    if word["order"] == "answer" and word["go_on"]:
        return
    for lane in [lane for lane in lanes if word["lane"] in (lane, None)]:
        if word.get("save") and step:
            save(lanes[lane], step, lane)
        tell("stopped", lane=lane, step=step)
        del lanes[lane]


def epochs_of(config: dict[str, Any]) -> int:
    return 10_000 if behaviour_of(config) == "endless" else int(config["epochs"])


def metrics_of(config: dict[str, Any], step: int) -> dict[str, float]:
    accuracy = {"nan": float("nan"), "peak": 1 / (1 + step)}.get(behaviour_of(config), 1 - 1 / (1 + step + config["momentum"]))
    return {"accuracy": accuracy, "loss": 1 / step}


def stop(order: dict[str, Any], cancel: dict[str, Any], step: int) -> None:
    if cancel["save"] and step:
        save(order, step)
    tell("stopped", step=step)


def save(order: dict[str, Any], step: int, lane: int = 0) -> None:
    folder = Path(order["checkpoint_folder"])
    folder.mkdir(parents=True, exist_ok=True)
    path, content = folder / f"s{step}.safetensors", f"step {step}".encode()
    path.write_bytes(content)
    checkpoint = {"step": step, "path": str(path), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    tell("saved", lane=lane, checkpoint=checkpoint)


def fail_on(how: str, fault: str) -> None:
    """A device that cannot be used, or not for as long as the file exists."""
    if how == "dies":
        sys.exit("the driver broke the toy")
    tell("unusable", detail="the toy's device is a brick at http://toy:swordfish@host/", remedy="Replace the brick")
    if how == "unusable":
        sys.exit(71)
    while os.path.exists(fault):
        time.sleep(0.05)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--slow-epoch", type=float, default=0.0)
    options.add_argument("--deaf", action="store_true", help="never reads an order again once it runs")
    options.add_argument("--no-start", action="store_true")
    options.add_argument("--greet", action="store_true", help="prints before its first order")
    options.add_argument("--bad-device", help="value of CUDA_VISIBLE_DEVICES with which the toy behaves as --how says")
    options.add_argument("--how", choices=("unusable", "dies", "slow"))
    options.add_argument("--while", dest="fault", help="file; while it exists, the device is bad")
    options.add_argument("--device-memory", type=int, help="bytes of a GPU that each run says it needs")
    options.add_argument("--takes-turns", help="file; toys with the same one do one epoch after the other")
    options.add_argument("--alone", help="file; of toys with the same one only one has memory for a run")
    given = options.parse_args()
    if given.no_start:
        sys.exit("the toy does not start")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # as the real one: it dies with its supervisor, whatever it does
    if given.greet:
        sys.stderr.write("the toy is imported\n")
    if given.bad_device and os.environ["CUDA_VISIBLE_DEVICES"] == given.bad_device and os.path.exists(given.fault):
        fail_on(given.how, given.fault)
    orders = Orders()
    tell("ready")
    while True:
        order = orders.next(None)
        assert order is not None
        if order["order"] == "check":
            check(order["config"])
        elif order["order"] == "run":
            if given.deaf:
                time.sleep(600)
            run(order, orders, given.slow_epoch, Gpu(given.device_memory, given.takes_turns, given.alone))
        elif order["order"] == "lanes":
            run_pass(order, orders, given.slow_epoch)
        else:
            continue
        tell("ready")


if __name__ == "__main__":
    main()
