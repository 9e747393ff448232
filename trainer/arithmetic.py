"""With what arithmetic a run computes, and what equal results rest on."""

import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch
import torchvision

from trainer.configuration import TrainConfig

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
