"""Errors that mean that memory ran out, and the peak of a device that was not used yet."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer import devices


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_memory_that_ran_out_is_recognised(error: BaseException) -> None:
    assert devices.lack(error)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("a shape"), OSError("disk full")])
def test_other_errors_are_none_of_that(error: BaseException) -> None:
    assert devices.lack(error) is None


def test_the_peak_of_a_gpu_can_be_started_before_anything_ran_on_it() -> None:
    code = "import torch; from trainer import devices; devices.start_peak(torch.device('cuda:0'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False
    )
    assert "Invalid device argument" not in done.stderr  # without a GPU it is the missing driver that is named
    assert done.returncode == 0 or "in start_peak" in done.stderr, done.stderr
