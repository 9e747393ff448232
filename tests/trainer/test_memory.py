"""Errors that mean that memory ran out, and the peak of a device that was not used yet."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer import memory


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
    assert memory.lack(error)


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (999_499, "999 kB"), (999_700, "1 MB"), (10**9, "1.0 GB")]
)
def test_a_number_of_bytes_is_written_without_an_exponent(amount: int, text: str) -> None:
    assert memory.readable(amount) == text


GB = 10**9


class Card:
    """A stand-in for a GPU's memory. `failing`: the driver answers no more."""

    def __init__(self, usage: memory.Usage, *, failing: bool = False) -> None:
        self._usage, self._failing = usage, failing

    def usage(self) -> memory.Usage:
        if self._failing:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self._usage

    def start_peak(self) -> None: ...

    def peak(self) -> tuple[int, int]:
        return self._usage.allocated, self._usage.reserved

    def empty_cache(self) -> None: ...


def card(free: float, total: float = 24, reserved: float = 0, allocated: float | None = None) -> Card:
    return Card(memory.Usage(*(int(amount * GB) for amount in (free, total, reserved, reserved if allocated is None else allocated))))


AMBIGUOUS = [
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER",
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1016, please report a bug to PyTorch.',
]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_an_ambiguous_error_is_decided_by_the_memory_that_is_left(text: str) -> None:
    error = RuntimeError(text)
    full = memory.lack(error, card(free=0.2, reserved=23, allocated=22.9))
    assert full is not None and full.detail.startswith(text) and full.usage is not None and full.usage.total == 24 * GB
    assert memory.lack(error, card(free=12, reserved=11)) is None
    assert memory.lack(error, card(free=0.2, reserved=23, allocated=18)) is None, "its allocator has 5 GB that it does not use"
    assert memory.lack(error) is None, "nothing is known about the memory"
    assert memory.lack(error, Card(memory.Usage(0, 1, 1, 1), failing=True)) is None


@pytest.mark.parametrize(("free", "total", "exhausted"), [(0.5, 8, True), (0.6, 8, False), (4, 141, True), (4.5, 141, False)])
def test_as_exhausted_counts_less_than_512_mebibytes_or_3_percent(free: float, total: float, exhausted: bool) -> None:
    found = memory.lack(RuntimeError(AMBIGUOUS[0]), card(free, total, total - free))
    assert (found is not None) is exhausted


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB", "the GPU"),
        ("HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB", "the GPU"),
        ("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB). Tried to allocate 2.00 GiB on private pool.", "the GPU"),
        ("XPU out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.9 GiB", "the GPU"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes. Error code 12", "the host"),
    ],
)
def test_the_place_is_named_for_every_kind_of_device(text: str, where: str) -> None:
    found = memory.lack(RuntimeError(text))
    assert found is not None and re.fullmatch(rf"2\.\d+ Gi?B could not be allocated on {where}", found.detail)


def test_the_detail_says_what_this_process_and_others_held() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    cache = memory.DeviceCache[str]()
    cache.keep("of another run", torch.device("cuda:0"), "", 3 * GB)
    found = memory.lack(error, card(free=0.5, reserved=16, allocated=15.5))
    assert found is not None and found.detail == (
        "2.00 GiB could not be allocated on the GPU; of 24.0 GB this process held 16.0 GB (the run's tensors 12.5 GB, examples and "
        "outputs kept for later runs 3.0 GB), other processes 6.4 GB; 500 MB was free"
    )


def test_the_memory_of_the_host_has_nothing_to_do_with_the_card() -> None:
    found = memory.lack(MemoryError(), card(free=0, reserved=24))
    assert found is not None and found.detail == "the system refused memory" and found.usage is None


@pytest.mark.parametrize(("others", "crowded"), [(0.0, False), (1.0, False), (3.0, False), (4.0, True)])
def test_a_card_is_crowded_when_others_hold_more_than_a_tenth_of_it(others: float, crowded: bool) -> None:
    usage = card(free=2, reserved=22 - others).usage()
    assert usage.is_crowded is crowded, "one gibibyte is allowed for this process's own context"


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("a shape"), OSError("disk full")])
def test_other_errors_are_none_of_that(error: BaseException) -> None:
    assert memory.lack(error) is None


def test_the_peak_of_a_gpu_can_be_started_before_anything_ran_on_it() -> None:
    code = "import torch; from trainer import memory; memory.start_run(torch.device('cuda:0'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False
    )
    assert "Invalid device argument" not in done.stderr  # without a GPU it is the missing driver that is named
    assert done.returncode == 0 or "in start_peak" in done.stderr, done.stderr
