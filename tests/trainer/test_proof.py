"""The test of a device before the trainer takes orders, and the remedies for what can go wrong."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import host, proof
from trainer.pipes import MessageWriter
from trainer.remedies import DeviceFacts, remedy

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
H100 = DeviceFacts("2.14.1+cu130", "13.0", "550.54.15", (7, 0), ("sm_75", "sm_80", "sm_90"))


def card_of(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA card")


def test_a_device_that_computes_as_the_cpu_does_is_proved_in_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    card_of(monkeypatch, (9, 0))
    asked = list[torch.dtype]()

    def compute(_device: torch.device, precision: torch.dtype) -> float:
        asked.append(precision)
        return proof.trained_once(CPU, precision)

    proof.prove(GPU, compute)
    assert asked == [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((9, 0), [torch.float32, torch.bfloat16, torch.float16]),
        ((7, 5), [torch.float32, torch.float16]),
        ((6, 1), [torch.float32]),
    ],
)
def test_a_card_is_tested_in_the_formats_of_its_matrix_units(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: list[torch.dtype]
) -> None:
    card_of(monkeypatch, capability)
    assert proof.precisions(GPU) == expected


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 0.0, 1.2])
def test_a_device_that_computes_something_else_fails(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    card_of(monkeypatch, (9, 0))
    with pytest.raises(proof.WrongResult, match=r"in float32 on this device, and 1\.0"):
        proof.prove(GPU, lambda _device, _precision: loss)


@pytest.mark.parametrize(("kind", "name"), [("mps", "Apple MPS"), ("xpu", "Intel XPU"), ("meta", "meta")])
def test_a_kind_of_device_that_was_never_tried_is_refused_in_words(kind: str, name: str) -> None:
    with pytest.raises(proof.Unsupported, match=f"training on {name} is not supported by this version"):
        proof.prove(torch.device(kind))


@pytest.mark.gpu
def test_a_real_gpu_is_proved() -> None:
    proof.prove(GPU)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver",
            ["driver 550.54.15, which supports CUDA 12.4,", "torch 2.14.1+cu130", "CUDA 13.0, which needs driver 580", "cu126"],
        ),
        ("CUDA error: CUDA driver version is insufficient for CUDA runtime version", ["driver 550.54.15 is too old", "580"]),
        ("CUDA error: no kernel image is available for execution on the device", ["compute capability 7.0", "sm_75 sm_80 sm_90"]),
        ("AssertionError: Torch not compiled with CUDA enabled", ["is built without CUDA", "index for CUDA"]),
        ("NVML: Driver/library version mismatch", ["Reboot"]),
        ("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment", ["Reboot"]),
        ("CUDA error: system not yet initialized", ["nvidia-fabricmanager"]),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.", ["Other processes use the card's memory", "--gpus"]),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", ["nvidia-smi -c DEFAULT"]),
        ("CUDA error: invalid device ordinal", ["CUDA_VISIBLE_DEVICES", "--gpus all"]),
        ("RuntimeError: No CUDA GPUs are available", ["CUDA_VISIBLE_DEVICES"]),
        ("CUDA error: uncorrectable ECC error encountered", ["Xid"]),
        ("nvidia-smi did not answer within 60 s", ["dmesg"]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", ["modprobe nvidia"]),
        ("OSError: libcudnn.so.9: cannot open shared object file", ["LD_LIBRARY_PATH"]),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", ["CUDA libraries of another version"]),
        ("nvidia-smi failed with exit code 4: Insufficient Permissions", ["access to /dev/nvidia"]),
        ("PermissionError: [Errno 13] Permission denied: '/srv/cache'", ["thaw doctor"]),
        ("the kernel killed the trainer because the machine ran out of memory", ["Free memory of the machine", "--slots"]),
        ("something that nobody has seen", ["thaw doctor"]),
    ],
)
def test_each_error_has_its_remedy(error: str, expected: list[str]) -> None:
    found = remedy(error, H100)
    assert [part for part in expected if part not in found] == []


@pytest.mark.parametrize("error", ["driver too old", "no kernel image", "Torch not compiled with CUDA enabled"])
def test_a_remedy_is_a_sentence_without_the_facts_too(error: str) -> None:
    found = remedy(error)
    assert "None" not in found and "  " not in found


def test_the_message_has_the_first_line_of_the_error_and_its_remedy() -> None:
    text = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be asynchronously reported"
    message = proof.unusable(torch.AcceleratorError(text), GPU)
    assert message.detail == "AcceleratorError: CUDA error: no kernel image is available for execution on the device"
    assert f"torch {torch.__version__} has no kernels" in message.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
        ("nothing of that kind", None),
    ],
)
def test_the_driver_s_version_is_read_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str | None
) -> None:
    file = tmp_path / "version"
    file.write_text(text)
    monkeypatch.setattr(proof, "KERNEL_MODULE", file)
    assert proof._driver() == expected


def test_a_test_that_takes_long_is_reported_and_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SLOW_PROOF_SECONDS", 0.1)
    monkeypatch.setattr(proof, "prove", lambda _device: time.sleep(0.5))
    lines = read_lines(lambda writer: writer.send(host._proved(CPU, writer)))
    assert [line["kind"] for line in lines] == ["unusable", "ready"]
    assert lines[0]["detail"] == "the test of the device did not finish within 0.1 s; it is awaited"
    assert lines[1]["proof_seconds"] >= 0.5


def read_lines(work: Callable[[MessageWriter], None]) -> list[dict[str, Any]]:
    reader, writer = os.pipe()
    thread = threading.Thread(target=work, args=(MessageWriter(writer),))
    thread.start()
    thread.join()
    os.close(writer)
    with open(reader) as stream:
        return [json.loads(line) for line in stream]


def test_a_trainer_runs_on_the_cpus_that_it_was_given() -> None:
    cpu = min(os.sched_getaffinity(0))
    command = [sys.executable, "-P", "-m", "trainer", "--device", "cpu", "--cpus", str(cpu)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and json.loads(process.stdout.readline())["kind"] == "ready"
            threads = [int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir()]
            assert os.sched_getaffinity(process.pid) == {cpu} and len(threads) >= 2
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("device", "detail"), [("cuda:0", "No CUDA GPUs|no NVIDIA driver|not compiled"), ("mps", "training on Apple MPS is not supported")]
)
def test_a_trainer_without_its_device_sends_one_message_and_ends(device: str, detail: str) -> None:
    command = [sys.executable, "-P", "-m", "trainer", "--device", device]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=300)
    [message] = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == host.UNUSABLE_EXIT_CODE
    assert message["kind"] == "unusable" and message["remedy"]
    assert any(part in message["detail"] for part in detail.split("|"))
