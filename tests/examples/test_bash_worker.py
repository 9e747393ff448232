"""examples/bash_worker.sh trains a study, returns its trial on SIGTERM, and leaves no process behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.client import Client
from tests.api.conftest import THAW
from tests.processes import alive, below
from tests.serving import served

WORKER = Path(__file__).resolve().parents[2] / "examples" / "bash_worker.sh"
# Trial 0 fails, and the first attempt at trial 1 goes on until it is ended.
TRAINING = """
[ "$THAW_TRIAL" != 0 ] || exit 7
printf '\\nloss=%s epoch=1\\n' "$THAW_PARAM_lr"
[ "$THAW_ATTEMPT" != 1 ] || sleep 600
"""
STUDY = {
    "name": "mine", "task": "script", "command": ["./train"], "workdir": "/srv/mine", "steps": 3,
    "search_space": {"lr": {"type": "float", "low": 0.001, "high": 0.1}}, "objective": {"metric": "loss", "direction": "minimize"},
    "budget": {"trials": 2},
}  # fmt: skip


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_study_is_trained_and_a_trial_returned_on_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THAW_DATABASE_URL", raising=False)
    with served(THAW, tmp_path / "home", workers=0) as address, Client(address) as client:
        client.create_study(STUDY)
        command = ["bash", str(WORKER), "mine", "sh", "-c", TRAINING]
        environment = {"PATH": f"{THAW.parent}:{os.environ['PATH']}", "THAW_SERVER": address, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as worker:
            try:
                until(lambda: any(one.number == 1 and one.step == 1 for one in client.trials("mine")))
                processes = below(worker.pid)
            finally:
                worker.send_signal(signal.SIGTERM)
            output = worker.communicate(timeout=120)[0]
        assert worker.returncode == 143, output
        assert len(processes) >= 4, "the heartbeat, the reports and the training"
        until(lambda: not any(map(alive, processes)))
        failed, returned = client.trials("mine")
        assert (failed.state, failed.detail) == ("failed", "the command ended with code 7"), output
        assert [one.ending for one in client.trial("mine", 1).attempts] == ["released"], output
        assert returned.state == "queued"
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and "The study is complete." in done.stderr, done.stdout + done.stderr
        _, last = client.trials("mine")
        assert (last.state, last.attempt, last.value) == ("complete", 2, last.params["lr"]), done.stdout + done.stderr
        assert not [one for one in tmp_path.iterdir() if one.name.startswith("tmp.")], "the folder with the token is removed"
