"""The device of a run: its arithmetic, memory and utilisation."""

import gc
import logging
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch
import torchvision

from trainer.configuration import TrainConfig

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


log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0  # the driver's own figure covers a sixth of a second to a second
Clock = Callable[[], float]


class Utilization(Protocol):
    """Watches a device while a run uses it."""

    def look(self) -> None:
        """Called after each batch; cheap."""

    def share(self) -> float | None:
        """Since it was last asked, or since the run began: from 0 to 1. None where nobody can tell."""


def utilization_of(device: torch.device) -> Utilization:
    """One that suits the device: of a GPU the share of the time in which kernels ran (its driver's figure, other processes' kernels
    among them), else the share of the processor time that the run's threads could have used."""
    return OfGpu(lambda: torch.cuda.utilization(device)) if device.type == "cuda" else OfProcessor(torch.get_num_threads)


class OfProcessor:
    """Processor time of this process over wall time and threads."""

    def __init__(self, threads: Callable[[], int], used: Clock = time.process_time, clock: Clock = time.perf_counter) -> None:
        self._threads, self._used, self._clock = threads, used, clock
        self._then = used(), clock()

    def look(self) -> None:
        """The kernel counts."""

    def share(self) -> float | None:
        """Of the threads' time; at most 1, though helpers beside them may add to it."""
        (used, at), self._then = self._then, (self._used(), self._clock())
        possible = (self._then[1] - at) * self._threads()
        return min(1.0, (self._then[0] - used) / possible) if possible > 0 else None


class OfGpu:
    """The mean of what the driver says once a second. `percent` raises whatever it likes where the driver cannot be asked."""

    def __init__(self, percent: Callable[[], int], clock: Clock = time.perf_counter) -> None:
        self._percent, self._clock = percent, clock
        self._seen = list[int]()
        self._next = clock() + SAMPLE_SECONDS

    def look(self) -> None:
        """Ask when a second has passed."""
        if self._clock() >= self._next:
            self._sample()

    def share(self) -> float | None:
        """The mean; of a run that took less than a second, the figure at its end."""
        if not self._seen:
            self._sample()
        seen, self._seen = self._seen, []
        return fmean(seen) / 100 if seen else None

    def _sample(self) -> None:
        try:
            self._seen.append(self._percent())
        except Exception as error:  # nvidia-ml-py is missing or does not know the driver: not a reason to end a run
            if self._next != float("inf"):
                log.info("how busy the GPU is cannot be told: %s", error)
            self._next = float("inf")
            return
        self._next = self._clock() + SAMPLE_SECONDS


PACKAGES = (
    "numpy",
    "pillow",
    "safetensors",
    "thawline",
)  # that results rest on besides torch and torchvision, as a package index knows them

BFLOAT16_SINCE = (8, 0)  # compute capability: Ampere's tensor cores multiply it natively, older GPUs emulate it


def resolved(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The config with the precision that "auto" means on the device; the only place where that is decided."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bfloat16" if _multiplies_bfloat16(device) else "float32"})


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether there are matrix units for it. A CPU's vector instructions for it gain too little (measured in bench/step.py)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE
    return bool(torch.cpu._is_amx_tile_supported())


def settle(device: torch.device) -> None:
    """Hold the device to arithmetic that repeats, and float32 to its name.

    TF32 keeps 10 bits of a float32's 23, by default in cuDNN and not in matrix products. It is off in both: float32 is what a run
    on a CPU and one on a GPU are compared in, and who wants the tensor cores asks for bfloat16, which is faster still.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context of every forward pass of the resolved config."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def environment(device: torch.device, config: TrainConfig) -> dict[str, str]:
    """What equal results rest on, besides the config. Versions of packages go by the names under which they are installed."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **_versions(),
        **_libraries(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
        "precision": resolved(config, device).precision,
        "tf32": "off",
    }


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    """Of PACKAGES, as far as they are installed: Thawline may run from its source."""
    found = dict[str, str]()
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _libraries(device: torch.device) -> Mapping[str, str]:
    """CUDA and cuDNN, where the device computes with them."""
    if device.type != "cuda":
        return {}
    named = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return {name: str(number) for name, number in named.items() if number is not None}


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()
