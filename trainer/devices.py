"""The device of a run: utilisation, precision and versions."""

import logging
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol

import torch
import torchvision

from trainer.configuration import TrainConfig
from trainer.models import Infeasible

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

PrecisionFormat = Literal["bfloat16", "float16", "tf32"]
FLOAT16_SINCE = (7, 0)  # compute capability of Volta, the first with tensor cores
BFLOAT16_SINCE = (8, 0)  # of Ampere, whose tensor cores multiply bfloat16 and TF32 too; older GPUs emulate bfloat16
WITHOUT_TENSOR_CORES = ("GTX 16",)  # names of GPUs of capability 7.5 that have none; they are known for NaN in float16
BFLOAT16_ARCHITECTURES = ("gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")  # of AMD's GPUs: CDNA from 2 on, RDNA from 3 on
FLOAT16_ARCHITECTURES = ("gfx908", *BFLOAT16_ARCHITECTURES)
OWNERS: Mapping[PrecisionFormat, str] = {
    "bfloat16": "NVIDIA GPUs from Ampere on",
    "float16": "NVIDIA GPUs from Volta on",
    "tf32": "NVIDIA GPUs from Ampere on",
}


def matrix_formats(device: torch.device) -> frozenset[PrecisionFormat]:
    """The number formats for which the device has matrix units."""
    if device.type == "cuda" and torch.version.hip is not None:
        return formats_of_amd(torch.cuda.get_device_properties(device).gcnArchName)
    if device.type == "cuda":
        return formats_of_nvidia(torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device))
    # A CPU's vector instructions for bfloat16 gain too little (measured in bench/step.py).
    return frozenset({"bfloat16"}) if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else frozenset()


def formats_of_nvidia(capability: tuple[int, int], name: str) -> frozenset[PrecisionFormat]:
    """The formats of the tensor cores of a GPU of that compute capability."""
    if capability >= BFLOAT16_SINCE:
        return frozenset({"bfloat16", "float16", "tf32"})
    has_cores = capability >= FLOAT16_SINCE and not any(part in name for part in WITHOUT_TENSOR_CORES)
    return frozenset({"float16"}) if has_cores else frozenset()


def formats_of_amd(architecture: str) -> frozenset[PrecisionFormat]:
    """The formats of the matrix units of an AMD GPU, such as of gfx90a:sramecc+:xnack-."""
    if architecture.startswith(BFLOAT16_ARCHITECTURES):
        return frozenset({"bfloat16", "float16"})
    return frozenset({"float16"}) if architecture.startswith(FLOAT16_ARCHITECTURES) else frozenset()


def resolved(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The config with the precision "auto" replaced by the device's: bfloat16, float16 or float32.

    Raises Infeasible for float16 and tf32 on a device without matrix units for them. bfloat16 is computed everywhere, since studies
    of earlier versions may name it; without matrix units it is slower than float32.
    """
    found = matrix_formats(device)
    match config.precision:
        case "auto":
            best = next((one for one in ("bfloat16", "float16") if one in found), "float32")
            return config.model_copy(update={"precision": best})
        case "float16" | "tf32" as wanted if wanted not in found:
            raise Infeasible(
                f"precision: {wanted} needs matrix units for it, such as those of {OWNERS[wanted]}; {_name(device)} has none. "
                "Write precision: auto, which chooses by the device"
            )
        case _:
            return config


def computes_tf32(config: TrainConfig, device: torch.device) -> bool:
    """Whether what stays float32 in runs of the resolved config is computed in TF32: on a GPU that has it, unless float32 is asked for."""
    return config.precision != "float32" and "tf32" in matrix_formats(device)


def settle(device: torch.device, config: TrainConfig) -> None:
    """Select deterministic algorithms, and TF32 or full float32, on the device. Raises Infeasible as `resolved` does.

    TF32 keeps 10 of the 23 mantissa bits of a float32. With `precision: float32` it is off in matrix products and convolutions, so that
    float32 results of a CPU and a GPU can be compared.
    """
    config = resolved(config, device)
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    if config.precision == "bfloat16" and "bfloat16" not in matrix_formats(device):
        log.warning("%s has no matrix units for bfloat16 and is slower in it than in float32; write precision: auto", _name(device))
    # The flag of earlier versions of torch alone leaves cuDNN's precision to a global setting. It is set first, to the same value: when the
    # two disagree, torch raises wherever it reads the flag, as in `torch.backends.cudnn.flags`.
    has_tf32 = computes_tf32(config, device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = has_tf32
    torch.backends.cuda.matmul.fp32_precision = "tf32" if has_tf32 else "ieee"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32" if has_tf32 else "ieee"  # type: ignore[attr-defined]


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context of every forward pass of the resolved config."""
    dtype = torch.float16 if config.precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=config.precision in ("bfloat16", "float16"))


def environment(device: torch.device, config: TrainConfig, packages: Sequence[str] = ()) -> dict[str, str]:
    """The facts besides the config on which results depend. Versions of packages are keyed by their distribution names.

    `packages` are those of the config's task besides PACKAGES.
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **_versions((*PACKAGES, *packages)),
        **_libraries(device),
        "device": _name(device),
        "threads": str(torch.get_num_threads()),
        "precision": (config := resolved(config, device)).precision,
        "tf32": _tf32(config, device),
    }


def _tf32(config: TrainConfig, device: torch.device) -> str:
    """Whether TF32 is on or off. NVIDIA's libraries obey NVIDIA_TF32_OVERRIDE before torch's settings."""
    forced = os.environ.get("NVIDIA_TF32_OVERRIDE") if "tf32" in matrix_formats(device) else None
    return "on" if forced == "1" or (computes_tf32(config, device) and forced != "0") else "off"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


@lru_cache(maxsize=16)
def _versions(names: tuple[str, ...]) -> Mapping[str, str]:
    """The versions of those packages that are installed; Thawline itself may run from its source tree."""
    found = dict[str, str]()
    for name in names:
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
