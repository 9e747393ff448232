"""A script without torch from study file to `thaw train`: two workers, one of them killed, its own checkpoints, confirmation, export."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.test_confirmation import call
from tests.processes import alive, below
from tests.serving import served

THAW = Path(sys.executable).parent / "thaw"
SECONDS = 300
EPOCHS = 6
SCRIPT = f"""
import json, os, pathlib, sys, time
params = json.load(open(os.environ["THAW_PARAMS"]))
given = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
assert given == {{name: str(value) for name, value in params.items()}}, given
saved = pathlib.Path(os.environ["THAW_CHECKPOINT"], "epoch")
done = int(saved.read_text()) if saved.exists() else 0
if done:
    print("resumed after epoch", done, "by", os.environ["THAW_RESUMED"])
noise = int(os.environ["THAW_SEED"]) % 1000 / 1e6
for epoch in range(done + 1, {EPOCHS} + 1):
    time.sleep(float(os.environ["EPOCH_SECONDS"]))
    print(f"epoch={{epoch}} loss={{(params['lr'] - 0.3) ** 2 + 1 / epoch + noise}}", flush=True)
    saved.with_suffix(".new").write_text(str(epoch))
    os.replace(saved.with_suffix(".new"), saved)
pathlib.Path(os.environ["THAW_OUT"], "model.txt").write_text(repr(params))
"""
STUDY: dict[str, Any] = {
    "name": "scripted",
    "task": "script",
    "command": ["python", "train.py", "${args}"],
    "workdir": "code",
    "search_space": {"lr": {"type": "float", "low": 0.01, "high": 1.0}, "ignored": {"type": "categorical", "choices": ["a", "b"]}},
    "baseline": {"lr": 0.9, "ignored": "a"},
    "objective": {"metric": "loss", "direction": "minimize"},
    "sampler": {"name": "random", "seed": 1},
    "budget": {"trials": 6},
    "confirm": {"top": 1, "seeds": 2},
    "environment": {"EPOCH_SECONDS": "0.3"},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study file and the script. Workers that are killed are missed soon."""
    monkeypatch.setenv("THAW_HEARTBEAT_SECONDS", "0.5")
    monkeypatch.setenv("THAW_LEASE_SECONDS", "4")
    monkeypatch.setenv("THAW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{THAW.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(SCRIPT)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


@contextmanager
def worker(place: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one slot; must end with 0 on SIGTERM, unless it was killed."""
    log = (place / "workers.log").open("ab")
    command = [str(THAW), "worker", "--slots", "1", *options]
    with log, subprocess.Popen(command, cwd=place, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
        assert process.wait(60) in (0, -signal.SIGKILL)


def thaw(server: str, place: Path, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run([str(THAW), "--server", server, *arguments], cwd=place, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(condition: Callable[[], Any], place: Path, pause_seconds: float = 0.1) -> Any:
    """What the condition returns once it holds."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause_seconds)
    raise AssertionError(f"it did not happen in {SECONDS} s:\n{(place / 'workers.log').read_text()[-4000:]}")


@pytest.mark.slow
def test_a_script_is_searched_killed_resumed_confirmed_exported_and_run_again(place: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(served(THAW, place / "home", workers=0))
        mine = f"{server}/api/v1/studies/scripted"
        first, _ = (stack.enter_context(worker(place, "--allow-scripts", "code")) for _ in range(2))
        thaw(server, place, "study", "create", "study.yaml")

        def under_way() -> Any:
            """A trial that the first worker has brought to its second epoch."""
            trials = call(f"{mine}/trials?state=running")["trials"]
            return next((one for one in trials if one["step"] in (2, 3) and f"-{first.pid}-" in one["worker"]), None)

        lost = until(under_way, place)["number"]
        processes = below(first.pid)
        first.kill()
        until(lambda: not any(map(alive, processes)), place)  # the script ends with its worker
        until(lambda: call(mine)["state"] != "active", place)
        assert (found := call(mine))["state"] == "complete" and found["phase"] == "done", found
        resumed = call(f"{mine}/trials/{lost}")
        assert [one["ending"] for one in resumed["attempts"]] == ["lost", "complete"]
        assert 2 <= resumed["attempts"][1]["resumed"] <= EPOCHS and resumed["result"]["train_seconds"] < EPOCHS * 0.3
        log = "".join(chunk["text"] for chunk in call(f"{mine}/trials/{lost}/log")["chunks"])
        assert "resumed after epoch" in log and "by 1" in log
        rows = call(f"{mine}/trials/{lost}/metrics")["rows"]
        assert [row["step"] for row in rows] == [*range(1, EPOCHS + 1)] and all(row["metrics"].keys() == {"loss"} for row in rows)
        trials = call(f"{mine}/trials?limit=50")["trials"]
        assert sum(one["round"] is None for one in trials) == 6 and {one["state"] for one in trials} == {"complete"}
        verdict = call(f"{mine}/confirmation")["verdict"]
        assert verdict["expected"] is not None and "over seeds" in " ".join(verdict["words"])
        thaw(server, place, "best", "scripted", "-o", "best.yaml")
    run_again(place)


def run_again(place: Path) -> None:
    """`thaw train` of the export: refused without permission and with other files, and else the trial's value again."""
    train = [str(THAW), "train", "best.yaml", "--out", "trained"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*train, *options], cwd=place, capture_output=True, text=True, timeout=SECONDS)

    assert (refused := run()).returncode == 1 and f"--allow-scripts {place / 'code'}" in refused.stderr
    (place / "code" / "train.py").write_text(SCRIPT + "\n# changed")
    assert (changed := run("--allow-scripts", "code")).returncode == 1 and "train.py" in changed.stderr
    (place / "code" / "train.py").write_text(SCRIPT)
    done = run("--allow-scripts", "code")
    assert done.returncode == 0 and "(equal)" in done.stdout, done.stdout + done.stderr
    result = json.loads((place / "trained" / "result.json").read_text())
    assert result["equal"] is True and "model.txt" in result["files"]
    assert (place / "trained" / "output" / "model.txt").exists() and not (place / "trained" / "checkpoint").exists()
