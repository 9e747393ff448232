"""`thaw doctor`, and the options that select GPUs and slots."""

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import operations
from service.cli import doctor, processes
from service.cli.console import Failure
from service.cli.processes import LocalWorkers, WorkerOptions
from service.domain.records import UnusableDevice
from service.settings import Settings
from service.store import open_store, queries
from service.store.migrate import upgrade
from service.worker.devices import Device, Slot
from service.worker.discovery import Discovery
from service.worker.process import TrainerProcess

Thaw = Callable[..., Any]
H100 = Device("GPU-1", "cuda", "NVIDIA H100", "0", 80 * 2**30)
H200 = Device("GPU-2", "cuda", "NVIDIA H200", "1", 141 * 2**30)
NO_SUCH_GPU = "GPU-00000000-0000-0000-0000-000000000000"


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_torch", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_devices", lambda: Discovery((H100, H200), ("CUDA_VISIBLE_DEVICES is not set",)))


def line_of(report: str, subject: str) -> str:
    (line,) = [line for line in report.splitlines() if line.removeprefix("WRONG").strip().startswith(f"{subject} ")]
    return line


def test_a_sound_machine_passes_and_nothing_is_created(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = thaw("--home", tmp_path / "home", "doctor")
    assert (said.code, said.err) == (0, "")
    assert "WRONG" not in said.out and not (tmp_path / "home").exists()
    assert "built for" in line_of(said.out, "torch")
    assert "CUDA_VISIBLE_DEVICES= allows no device" in line_of(said.out, "GPU")
    assert "trainer ready after" in line_of(said.out, "CPU")
    assert "GB free" in line_of(said.out, "THAW_HOME") and "is empty, at most 20.0 GB" in line_of(said.out, "cache")
    assert "the first server or worker creates it" in line_of(said.out, "database")


def test_a_gpu_that_cannot_be_used_is_wrong_and_has_a_remedy(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver its trainer refuses this GPU; with one the search does."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", NO_SUCH_GPU)
    said = thaw("--home", tmp_path, "doctor")
    assert said.code == 1 and said.err == "1 check failed.\n"
    assert line_of(said.out, "GPU").startswith("WRONG")
    assert "There is no such device for this process: check CUDA_VISIBLE_DEVICES" in said.out


def test_a_driver_that_hangs_does_not_hang_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = SimpleNamespace(NVMLError=type("NVMLError", (Exception,), {}), nvmlInit=lambda: time.sleep(30))
    monkeypatch.setitem(sys.modules, "pynvml", hanging)
    monkeypatch.setattr(doctor, "VERSION_SECONDS", 0.2)
    began_at = time.monotonic()
    assert doctor._driver_version() == "NVML did not answer within 0.2 s"
    assert time.monotonic() - began_at < 15


SLOW = """print('{"kind": "unusable", "detail": "the test is slow", "remedy": "Wait"}', flush=True)\n"""
READY = """print('{"kind": "ready", "proof_seconds": 14.0}', flush=True)\nimport sys\nsys.stdin.read()"""


@pytest.mark.parametrize(
    ("trainer", "value", "fault"),
    [
        (SLOW + READY, "computes as the CPU does, tested in 14.0 s; trainer ready after", None),
        (SLOW, "cannot be used", "the test is slow. Wait"),
        ("raise SystemExit('CUDA error: invalid device ordinal')", "cannot be used", "There is no such device for this process"),
    ],
)
def test_a_device_is_judged_by_the_end_of_its_test(trainer: str, value: str, fault: str | None) -> None:
    process = TrainerProcess((sys.executable, "-c", trainer), {})
    try:
        found = doctor._proof(Slot(0, H100, 1), process, time.monotonic())
    finally:
        process.close(0)
    assert found.value.startswith(value)
    assert found.fault is None if fault is None else fault in str(found.fault)


@pytest.mark.usefixtures("without_torch")
def test_an_installation_without_torch_is_a_server_s_and_sound(thaw: Thaw, tmp_path: Path) -> None:
    said = thaw("--home", tmp_path, "doctor")
    assert said.code == 0 and "not installed: this installation runs servers" in line_of(said.out, "torch")


@pytest.mark.usefixtures("without_torch")
def test_a_database_that_cannot_be_reached_or_is_old_is_wrong(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_TOKEN", "0123456789abcdef-secret")
    said = thaw("--home", tmp_path, "--database-url", "postgresql://me:swordfish@127.0.0.1:1/thaw", "doctor")
    assert said.code == 1 and line_of(said.out, "database").startswith("WRONG")
    assert "THAW_TOKEN" in said.out and "secret" not in said.out and "swordfish" not in said.out + said.err
    (tmp_path / "thawline.db").touch()
    old = thaw("--home", tmp_path, "doctor")
    assert old.code == 1 and "run `thaw db upgrade`" in old.out
    monkeypatch.delenv("THAW_TOKEN")
    assert thaw("--home", tmp_path, "db", "upgrade").code == 0
    assert thaw("--home", tmp_path, "doctor").code == 0


@pytest.mark.usefixtures("without_torch")
def test_the_report_as_json_has_each_check_with_its_fault(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_SERVER", "http://ann:swordfish@127.0.0.1:9")
    said = thaw("--home", tmp_path, "doctor", "--json")
    found = json.loads(said.out)
    assert said.code == 1 and said.err == "1 check failed.\n" and found["sound"] is False
    checks = {one["subject"]: one for one in found["checks"]}
    assert {"Python", "Thawline", "packages", "torch", "THAW_HOME", "cache", "database", "server"} <= checks.keys()
    assert "optuna" in checks["packages"]["value"] and checks["database"]["fault"] is None
    assert checks["server"]["value"] == "none at http://127.0.0.1:9" and "`thaw serve`" in checks["server"]["fault"]
    assert "swordfish" not in said.out


class Guarded(BaseHTTPRequestHandler):
    """Answers as a server that has a token."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer 0123456789abcdef-secret"
        body = {"workers": []} if known else {"type": "urn:thawline:problem:unauthorized", "detail": "The token is missing.", "status": 401}
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("without_torch")
def test_the_server_is_asked_with_the_token(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        refused = thaw("--home", tmp_path, "--server", address, "doctor")
        assert refused.code == 1 and "The token is missing; set THAW_TOKEN to the server's token." in refused.out
        monkeypatch.setenv("THAW_TOKEN", "0123456789abcdef-secret")
        known = thaw("--home", tmp_path, "--server", address, "doctor")
        assert known.code == 0 and f"{address} answers, with 0 workers" in line_of(known.out, "server")
        server.shutdown()


@pytest.mark.usefixtures("without_torch")
def test_the_size_of_the_cache_is_measured(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "cache" / "pixels").mkdir(parents=True)
    (tmp_path / "cache" / "pixels" / "a").write_bytes(b"0" * 160_000_000)
    assert "0.2 GB used, at most 20.0 GB" in line_of(thaw("--home", tmp_path, "doctor").out, "cache")


def test_sinks_that_fail_are_wrong_and_others_are_listed(thaw: Thaw, tmp_path: Path, without_torch: None) -> None:
    url = f"sqlite:///{tmp_path / 'some.db'}"
    upgrade(url)
    with closing(open_store(url)) as store:
        for name in ("webhook:sound", "webhook:down"):
            operations.register_sink(store, name, from_start=True)
            seen = store.read(queries.find_sink, name)
            assert seen is not None and operations.take_sink(store, seen, "me")
        operations.fail_sink(store, "webhook:down", "me", "down answered 500")
    said = thaw("--home", tmp_path, "--database-url", url, "doctor")
    assert said.code == 1
    assert "0 events delivered, 0 to come; nothing delivered yet" in line_of(said.out, "webhook:sound")
    assert line_of(said.out, "webhook:down").startswith("WRONG")
    assert "1 failure since" in said.out and "down answered 500" in said.out


@pytest.mark.usefixtures("without_torch")
def test_a_home_that_cannot_be_a_folder_is_wrong(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = thaw("--home", tmp_path / "file" / "home", "doctor")
    assert said.code == 1 and f"{tmp_path / 'file'} cannot be written" in said.out


@pytest.mark.usefixtures("without_torch")
def test_a_full_disk_is_wrong_and_settings_that_deviate_are_listed(thaw: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_DISK_FLOOR_BYTES", str(10**18))
    monkeypatch.setenv("THAW_HOSTS", "lab.example,den.example")
    said = thaw("--home", tmp_path, "doctor")
    assert said.code == 1 and "less than THAW_DISK_FLOOR_BYTES (1000000000.0 GB) is free" in said.out
    assert "lab.example, den.example" in line_of(said.out, "THAW_HOSTS")
    assert "THAW_LEASE_SECONDS" not in said.out


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(thaw: Thaw, tmp_path: Path) -> None:
    for command in ("worker", "serve"):
        said = thaw("--home", tmp_path, command, "--gpus", NO_SUCH_GPU)
        assert said.code == 1 and f"--gpus: there is no GPU {NO_SUCH_GPU} here; found: " in said.err


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_selected_by_index_or_id_and_their_worker_does_not_fall_back() -> None:
    [slot], fallback = (layout := WorkerOptions(gpus="1").layout(8)).slots, layout.fallback
    assert (slot.gpu, fallback) == (H200, ())
    assert [slot.gpu for slot in WorkerOptions(gpus="GPU-2,0").layout(8).slots] == [H200, H100]
    with pytest.raises(Failure, match=r"there is no GPU 2 here; found: NVIDIA H100 #0, 80 GB \(GPU-1\); NVIDIA H200 #1, 141 GB \(GPU-2\)"):
        WorkerOptions(gpus="0,2").layout(8)


@pytest.mark.usefixtures("two_gpus")
def test_a_worker_that_was_given_no_gpus_falls_back_to_the_cpu() -> None:
    layout = WorkerOptions().layout(3)
    assert [slot.gpu for slot in layout.slots] == [H100, H200]
    assert [(slot.index, slot.gpu, slot.threads) for slot in layout.fallback] == [(2, None, 1), (3, None, 1), (4, None, 1)]


@pytest.mark.usefixtures("two_gpus")
def test_an_automatic_number_of_slots_begins_with_one_for_each_gpu() -> None:
    layout = WorkerOptions(slots_per_gpu="auto", gpu_workers=2).layout(12)
    assert [slot.gpu for slot in layout.slots] == [H100, H200] and layout.packed_by == 2
    assert [WorkerOptions(slots_per_gpu=number).layout(12).packed_by for number in (None, 2)] == [0, 0]
    assert LocalWorkers(Settings(), 0, WorkerOptions(slots_per_gpu="auto")).command(None, 4)[-2:] == ["--slots-per-gpu", "auto"]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "Auto"])
def test_another_number_of_slots_per_gpu_is_refused(thaw: Thaw, tmp_path: Path, text: str) -> None:
    said = thaw("--home", tmp_path, "worker", f"--slots-per-gpu={text}")
    assert said.code == 2 and "--slots-per-gpu is a whole number from 1 on, or auto" in said.err


@pytest.mark.usefixtures("two_gpus")
def test_slots_per_gpu_multiply_the_slots() -> None:
    slots = WorkerOptions(slots_per_gpu=3).layout(12).slots
    assert [slot.gpu for slot in slots] == [H100, H200] * 3
    assert {(slot.threads, slot.sharing) for slot in slots} == {(2, 3)}


def test_slots_per_gpu_have_no_effect_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = UnusableDevice("NVIDIA driver", "NVIDIA driver", "NVML: Driver/library version mismatch", "Reboot")
    monkeypatch.setattr(processes, "find_devices", lambda: Discovery((), (), broken))
    layout = WorkerOptions(slots_per_gpu=3).layout(2)
    assert layout.slots == (Slot(0, None, 1, 2), Slot(1, None, 1, 2)) and layout.faults == (
        replace(broken, remedy="Reboot; then restart the worker"),
    )
    with pytest.raises(Failure, match=r"found: none\.\nNVIDIA driver: NVML: Driver/library version mismatch\. Reboot\."):
        WorkerOptions(gpus="0").layout(2)


def test_slots_and_slots_per_gpu_exclude_each_other(thaw: Thaw, tmp_path: Path) -> None:
    said = thaw("--home", tmp_path, "worker", "--slots", "2", "--slots-per-gpu", "2")
    assert said.code == 2 and "give --slots or --slots-per-gpu, not both" in said.err


@pytest.mark.usefixtures("two_gpus")
def test_workers_of_a_server_divide_the_gpus_that_it_was_given(tmp_path: Path) -> None:
    workers = LocalWorkers(Settings(home=tmp_path), 2, WorkerOptions(slots_per_gpu=2, gpus="0,1"))
    assert workers.command([H100], 4)[-4:] == ["--slots-per-gpu", "2", "--gpus", "GPU-1"]
    assert "--gpus" not in LocalWorkers(Settings(home=tmp_path), 2, WorkerOptions()).command([H100], 4)
