"""How much memory there is, and how much of it a run took."""

import gc
import re
import sys
from pathlib import Path

import torch

WANTED_BYTES = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")
EXHAUSTED = (
    "allocate memory", "out of memory", "bad_alloc", "not enough memory",
    "ALLOC_FAILED", "ALLOCATION_FAILED",  # of cuBLAS and cuDNN, which allocate for themselves
)  # fmt: skip
CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that this process can still take, by the kernel's estimate and the container's limit; None where neither is told."""
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


def start_peak(device: torch.device) -> None:
    """Forget the peak so far, so that `peak` tells this run's."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # a process that has not used the GPU yet has nothing to reset
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # the peak is then that of the process


def peak(device: torch.device) -> int:
    """Bytes: the most that was allocated on a GPU, or resident in this process; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    match = re.search(r"^VmHWM:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def present(device: torch.device) -> int:
    """Bytes: allocated on a GPU at this moment, or resident in this process; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    match = re.search(r"^VmRSS:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def readable(amount: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def lack(error: BaseException) -> str | None:
    """What was asked for in vain, when the error says that memory ran out; None for any other error."""
    text = str(error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(phrase in text for phrase in EXHAUSTED):
        return None
    if (asked := WANTED_BYTES.search(text)) is None:
        return text or "the system refused memory"
    amount, _, unit = asked[1].partition(" ")
    where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "the host"
    return f"{readable(float(amount)) if unit == 'bytes' else asked[1]} could not be allocated on {where}"


def release(device: torch.device) -> None:
    """Give back what a run that has ended left on the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
