"""Memory of the host and of the device: what is free, the peak of a run, errors that mean that it ran out, and caches on the device."""

import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that this process can still allocate, by the kernel's estimate and the container's limit; None if both are unknown."""
    found = [amount for amount in (_of_machine(), _of_container()) if amount is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _of_container() -> int | None:
    limit, used = _text(CGROUP / "memory.max").strip(), _text(CGROUP / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = re.search(r"^inactive_file (\d+)", _text(CGROUP / "memory.stat"), re.MULTILINE)
    return max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def readable(amount: float) -> str:
    """A number of bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


CONTEXT_BYTES = 2**30  # allowance for CUDA's context and the workspaces of libraries, which the allocator does not count
OTHERS_SHARE = 0.1  # of a device's memory; if other processes hold more, a lack of memory is not attributed to the run


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a device's memory at one moment."""

    free: int  # by the driver
    total: int
    reserved: int  # by this process's allocator
    allocated: int  # of these, in use by tensors

    @property
    def left(self) -> int:
        """Bytes that this process can still allocate: what is free, and what its allocator has reserved and does not use."""
        return self.free + max(0, self.reserved - self.allocated)

    @property
    def others(self) -> int:
        """Bytes held by other processes, less the allowance for this process's context. 0 if it is not more than the allowance."""
        return max(0, self.total - self.free - self.reserved - CONTEXT_BYTES)

    @property
    def is_crowded(self) -> bool:
        """Whether other processes hold more than OTHERS_SHARE of the device."""
        return self.others > OTHERS_SHARE * self.total


class DeviceMemory(Protocol):
    """The memory of a device that has its own; implemented by CudaMemory."""

    def usage(self) -> Usage:
        """The present usage."""

    def start_peak(self) -> None:
        """Set both peaks to the present values."""

    def peak(self) -> tuple[int, int]:
        """The highest allocated and the highest reserved bytes since `start_peak`."""

    def empty_cache(self) -> None:
        """Return the memory that the allocator has reserved and does not use."""


class CudaMemory:
    """A GPU's memory, by torch's functions for CUDA, which ROCm has too."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def usage(self) -> Usage:
        free, total = torch.cuda.mem_get_info(self._device)
        return Usage(free, total, torch.cuda.memory_reserved(self._device), torch.cuda.memory_allocated(self._device))

    def start_peak(self) -> None:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # the reset fails before CUDA is initialised
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> tuple[int, int]:
        return torch.cuda.max_memory_allocated(self._device), torch.cuda.max_memory_reserved(self._device)

    def empty_cache(self) -> None:
        torch.cuda.empty_cache()


def of(device: torch.device) -> DeviceMemory | None:
    """The device's own memory; None if it uses the host's."""
    return CudaMemory(device) if device.type == "cuda" else None


def start_peak(device: torch.device) -> None:
    """Reset the peak, so that `peak` returns the peak of the run that starts now."""
    if (own := of(device)) is not None:
        own.start_peak()
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # `peak` is then the peak of the whole process


def peak(device: torch.device) -> int:
    """Peak bytes: allocated on a GPU, or resident in this process; 0 if the system does not report it."""
    if (own := of(device)) is not None:
        return own.peak()[0]
    match = re.search(r"^VmHWM:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def present(device: torch.device) -> int:
    """Current bytes: allocated on a GPU, or resident in this process; 0 if the system does not report it."""
    if (own := of(device)) is not None:
        return own.usage().allocated
    match = re.search(r"^VmRSS:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def release(device: torch.device) -> None:
    """Free the memory that a finished run left on the device."""
    gc.collect()
    if (own := of(device)) is not None:
        own.empty_cache()


WANTED_BYTES = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")
EXHAUSTED = (
    "allocate memory", "out of memory", "bad_alloc", "not enough memory",
    "ALLOC_FAILED", "ALLOCATION_FAILED",  # by cuBLAS and cuDNN, which do not use torch's allocator
)  # fmt: skip
# cuDNN and cuBLAS also report a lack of memory by these texts. torch tries cuDNN's plans one after the other and discards the
# out-of-memory error of each plan's workspace; what remains is "unable to find an engine". A broken library or driver gives the same texts.
MAYBE_EXHAUSTED = (
    "unable to find an engine", "CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_EXECUTION_FAILED",
    "HIPBLAS_STATUS_NOT_INITIALIZED", "HIPBLAS_STATUS_INTERNAL_ERROR", "miopenStatusInternalError",
    "NVML_SUCCESS == r INTERNAL ASSERT",  # by torch's allocator while it writes an out-of-memory message and cannot ask the driver
)  # fmt: skip
ON_GPU = re.compile(r"(?<![A-Z])(?:CUDA|CUBLAS|CUDNN|HIP|MPS|XPU)")
EXHAUSTED_SHARE, EXHAUSTED_BYTES = 0.03, 512 * 2**20  # less left than this share or this amount counts as exhausted


@dataclass(frozen=True, slots=True)
class Lack:
    """Memory that ran out."""

    detail: str  # a sentence
    usage: Usage | None = None  # of the device; None if the host's memory ran out


def lack(error: BaseException, own: DeviceMemory | None = None) -> Lack | None:
    """What ran out if the error means that memory did; None for any other error.

    `own` is the memory of the device of the run. It decides about MAYBE_EXHAUSTED; without it these errors are others. Call it while
    the error is handled: its traceback keeps the run's tensors alive, so that the usage is that of the failure.
    """
    text = str(error)
    certain = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(phrase in text for phrase in EXHAUSTED)
    if not certain and not any(phrase in text for phrase in MAYBE_EXHAUSTED):
        return None
    on_gpu = not certain or isinstance(error, torch.OutOfMemoryError) or ON_GPU.search(text) is not None
    usage = _usage(own) if on_gpu else None
    if not certain and (usage is None or usage.left >= max(EXHAUSTED_SHARE * usage.total, EXHAUSTED_BYTES)):
        return None
    if (asked := WANTED_BYTES.search(text)) is not None:
        amount, _, unit = asked[1].partition(" ")
        where = "the GPU" if on_gpu else "the host"
        text = f"{readable(float(amount)) if unit == 'bytes' else asked[1]} could not be allocated on {where}"
    return Lack((text or "the system refused memory") + (f"; {_described(usage)}" if usage is not None else ""), usage)


def _usage(own: DeviceMemory | None) -> Usage | None:
    """The usage; None if the device cannot be asked, as after an error that the process cannot recover from."""
    try:
        return None if own is None else own.usage()
    except RuntimeError:
        return None


def _described(usage: Usage) -> str:
    held = f"this process held {readable(usage.reserved)}, of which the run's tensors {readable(usage.allocated)}"
    others = f"other processes {readable(usage.others)}" if usage.others else "other processes nothing"
    return f"of {readable(usage.total)} {held}, {others}; {readable(usage.free)} was free"
