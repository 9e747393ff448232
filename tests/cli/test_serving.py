"""`thaw serve` as a process: its workers come and go with it. And what the command costs before it does anything."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.cli import processes
from service.cli.processes import LocalWorkers, WorkerOptions, gpu_workers, share_gpus
from service.settings import Settings
from service.worker.devices import Device
from service.worker.discovery import Discovery
from tests.processes import alive, below, children

HEAVY = ("torch", "sqlalchemy", "fastapi", "optuna", "httpx2", "pydantic", "rich.live")


def until(holds: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_worker_and_trainer_end_with_the_server(start_server: Callable[..., Any], number: signal.Signals) -> None:
    server = start_server("--workers", "1").process
    until(lambda: len(below(server.pid)) == 2)
    descendants = below(server.pid)
    server.send_signal(number)
    assert server.wait(120) == (-9 if number is signal.SIGKILL else 0)
    until(lambda: not any(map(alive, descendants)))


def test_a_worker_that_dies_is_started_again(start_server: Callable[..., Any]) -> None:
    server = start_server("--workers", "1").process
    until(lambda: len(children(server.pid)) == 1)
    [first] = children(server.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: bool(children(server.pid) - {first}) and not alive(first))


def test_a_worker_that_was_drained_goes_and_is_not_started_again(start_server: Callable[..., Any], thaw: Callable[..., Any]) -> None:
    served = start_server("--workers", "1", "--slots", "1")
    server = served.process
    until(lambda: len(below(server.pid)) == 2)
    [worker] = children(server.pid)

    def listed() -> str:
        return str(thaw("--server", served.address, "workers", "list").out)

    until(lambda: " alive " in listed())
    name = listed().split("\n")[1].split()[0]
    assert f"-{worker}-" in name
    assert thaw("--server", served.address, "workers", "drain", name).out.strip() == f"{name}: draining, 0 trials running"
    until(lambda: not alive(worker))
    until(lambda: "it is not restarted" in (served.home / "log").read_text())
    assert children(server.pid) == set() and " gone " in listed()
    assert thaw("--server", served.address, "workers", "drain", "nobody").code == 1


def test_another_address_than_loopback_needs_a_token(thaw: Callable[..., Any], tmp_path: Path) -> None:
    said = thaw("--home", tmp_path, "serve", "--host", "192.0.2.1", "--workers", "0")
    assert said.code == 1 and "THAW_TOKEN" in said.err


def test_the_schema_is_made_once_and_checked(thaw: Callable[..., Any], tmp_path: Path) -> None:
    assert thaw("--home", tmp_path, "db", "check").code == 1
    assert thaw("--home", tmp_path, "db", "upgrade").code == 0
    assert thaw("--home", tmp_path, "db", "check").code == 0


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, service.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-P", "-c", code], text=True).strip() == "[]"


def test_a_worker_does_not_import_torch() -> None:
    code = "import sys, service.cli.processes, service.cli.training, service.cli.demo; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-P", "-c", code], text=True).strip() == "False"


def test_workers_of_one_machine_divide_its_gpus() -> None:
    a, b, c = (Device(name, "cuda", "GPU") for name in "abc")
    assert share_gpus((a, b, c), 2) == [(a, c), (b,)]
    assert share_gpus((a,), 2) == [(a,), (a,)]
    assert share_gpus((), 2) == [None, None]


def test_workers_that_share_a_gpu_are_started_with_their_number() -> None:
    a, b = (Device(name, "cuda", "GPU") for name in "ab")
    shares = share_gpus((a, b), 3)
    assert [gpu_workers(shares, share) for share in shares] == [2, 1, 2]
    assert [gpu_workers([None, None], None), gpu_workers([(a, b)], (a, b))] == [1, 1]
    local = LocalWorkers(Settings(), 0, WorkerOptions())
    assert local.command((a,), 4, 2)[-2:] == ["--gpu-workers", "2"]
    assert "--gpu-workers" not in local.command((b,), 4, 1)


def test_a_worker_divides_the_memory_of_a_gpu_with_the_other_workers_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_devices", lambda: Discovery((Device("a", "cuda", "GPU"),), ()))
    layout = WorkerOptions(slots=2, gpu_workers=2).layout(4)
    assert [slot.sharing for slot in layout.slots] == [4, 4]
