"""The device of a run: utilisation, precision and versions."""

import logging
import platform
import re
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

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0  # the driver's figure covers the last 1/6 s to 1 s
Clock = Callable[[], float]


class Utilization(Protocol):
    """Measures the utilisation of a device while a run uses it."""

    def look(self) -> None:
        """Take a sample if one is due. Called after each batch; cheap."""

    def share(self) -> float | None:
        """Utilisation since the last call or the start of the run, 0 to 1; None if it is unknown."""


def utilization_of(device: torch.device) -> Utilization:
    """The measurement for the device.

    On a GPU it is the share of the time in which kernels ran, as its driver reports it; kernels of other processes count too. On a CPU it
    is the used share of the processor time that the run's threads could have used.
    """
    return OfGpu(lambda: torch.cuda.utilization(device)) if device.type == "cuda" else OfProcessor(torch.get_num_threads)


class OfProcessor:
    """Processor time of this process over wall time and threads."""

    def __init__(self, threads: Callable[[], int], used: Clock = time.process_time, clock: Clock = time.perf_counter) -> None:
        self._threads, self._used, self._clock = threads, used, clock
        self._then = used(), clock()

    def look(self) -> None:
        """Nothing to do: the kernel counts processor time."""

    def share(self) -> float | None:
        """Used share of the threads' time. Capped at 1, since threads besides PyTorch's add to the processor time."""
        (used, at), self._then = self._then, (self._used(), self._clock())
        possible = (self._then[1] - at) * self._threads()
        return min(1.0, (self._then[0] - used) / possible) if possible > 0 else None


class OfGpu:
    """Mean of the driver's figure, sampled once a second. `percent` may raise any exception if the driver cannot be queried."""

    def __init__(self, percent: Callable[[], int], clock: Clock = time.perf_counter) -> None:
        self._percent, self._clock = percent, clock
        self._seen = list[int]()
        self._next = clock() + SAMPLE_SECONDS

    def look(self) -> None:
        """Take a sample if a second has passed."""
        if self._clock() >= self._next:
            self._sample()

    def share(self) -> float | None:
        """The mean of the samples; without any, a sample taken now."""
        if not self._seen:
            self._sample()
        seen, self._seen = self._seen, []
        return fmean(seen) / 100 if seen else None

    def _sample(self) -> None:
        try:
            self._seen.append(self._percent())
        except Exception as error:  # nvidia-ml-py is missing or does not support the driver; the run continues without the figure
            if self._next != float("inf"):
                log.info("the GPU's utilisation cannot be measured: %s", error)
            self._next = float("inf")
            return
        self._next = self._clock() + SAMPLE_SECONDS


PACKAGES = (
    "numpy",
    "pillow",
    "safetensors",
    "thawline",
)  # distribution names of packages, besides torch and torchvision, whose versions can change results

BFLOAT16_SINCE = (8, 0)  # compute capability of Ampere, whose tensor cores multiply bfloat16; older GPUs emulate it


def resolved(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The config with the precision "auto" replaced by the device's: bfloat16 if it has matrix units for it, else float32."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bfloat16" if _multiplies_bfloat16(device) else "float32"})


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has matrix units for bfloat16. A CPU's vector instructions gain too little (measured in bench/step.py)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE
    return bool(torch.cpu._is_amx_tile_supported())


def settle(device: torch.device) -> None:
    """Select deterministic algorithms and full float32 on the device.

    TF32 keeps 10 of the 23 mantissa bits of a float32. torch enables it by default in cuDNN, not in matrix products. It is off in both, so
    that float32 results of a CPU and a GPU can be compared. bfloat16 uses the tensor cores and is faster than TF32.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context of every forward pass of the resolved config."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def environment(device: torch.device, config: TrainConfig) -> dict[str, str]:
    """The facts besides the config on which results depend. Versions of packages are keyed by their distribution names."""
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
    """The versions of those PACKAGES that are installed; Thawline itself may run from its source tree."""
    found = dict[str, str]()
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _libraries(device: torch.device) -> Mapping[str, str]:
    """The versions of CUDA and cuDNN if the device is a GPU."""
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
