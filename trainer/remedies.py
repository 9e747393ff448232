"""What to do about a device that cannot be used, by the text of the error and the versions of driver and torch. Imports no torch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Least Linux driver by major version of CUDA, whose minor versions are compatible: "CUDA Toolkit Release Notes", table of driver versions.
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
UNSUPPORTED = {
    "mps": "training on Apple MPS is not supported by this version: it has no float64, in which losses are added up",
    "xpu": "training on Intel XPU is not supported by this version: no run on one was ever tried",
}
FOUND_VERSION = re.compile(r"found version (\d+)")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Versions on which the remedy depends; None or empty where unknown."""

    torch: str | None = None
    cuda: str | None = None  # that torch is built for, such as 13.0
    driver: str | None = None  # such as 550.54.15
    capability: tuple[int, int] | None = None  # compute capability of the device
    architectures: Sequence[str] = ()  # that torch has kernels for, such as sm_90


def _old_driver(text: str, facts: DeviceFacts) -> str:
    driver = f"driver {facts.driver}" if facts.driver else "the driver"
    if found := FOUND_VERSION.search(text):  # 12040 is CUDA 12.4
        driver += f", which supports CUDA {int(found[1]) // 1000}.{int(found[1]) % 1000 // 10},"
    least = LEAST_DRIVER.get(int(facts.cuda.split(".")[0])) if facts.cuda else None
    needs = f"CUDA {facts.cuda or ''}".strip() + (f", which needs driver {least} or newer" if least else "")
    return (
        f"{driver} is too old for torch {facts.torch or ''}".rstrip() + f": it is built for {needs}. Update the driver, or install torch "
        "from PyTorch's index for an older CUDA, such as cu126"
    )


def _no_kernels(_text: str, facts: DeviceFacts) -> str:
    card = f"compute capability {facts.capability[0]}.{facts.capability[1]}" if facts.capability else "this compute capability"
    built = " ".join(facts.architectures) or "others only"
    return (
        f"torch {facts.torch or ''}".rstrip() + f" has no kernels for a card of {card} (it has {built}). Install torch from PyTorch's "
        "index for another CUDA, such as cu126, which has kernels for older cards"
    )


def _no_cuda(_text: str, facts: DeviceFacts) -> str:
    return (
        f"torch {facts.torch or ''}".rstrip()
        + " is built without CUDA. Install torch from PyTorch's index for CUDA, such as cu130 or cu126"
    )


def _fixed(sentence: str) -> Callable[[str, DeviceFacts], str]:
    return lambda _text, _facts: sentence


# The first row whose expression is found in the error decides.
REMEDIES: Sequence[tuple[str, Callable[[str, DeviceFacts], str]]] = (
    (r"driver.*too old|driver version is insufficient|forward compatibility was attempted", _old_driver),
    (r"no kernel \w+ is available|not compatible with the current PyTorch", _no_kernels),
    (r"not compiled with CUDA|built without CUDA", _no_cuda),
    (
        r"version mismatch|CUDA unknown error",
        _fixed(
            "Reboot, or reload the driver's kernel modules: the driver was updated while an old module stayed loaded, or the machine slept"
        ),
    ),
    (
        r"system not yet initialized",
        _fixed("Start the service nvidia-fabricmanager in the version of the driver; cards connected by NVSwitch need it"),
    ),
    (
        r"MIG enabled, but no slice",
        _fixed(
            "Create slices (`nvidia-smi mig -lgip` lists the profiles, `nvidia-smi mig -cgi PROFILE -C` creates one), or switch MIG off "
            "(`nvidia-smi -mig 0`)"
        ),
    ),
    (r"machine ran out of memory", _fixed("Free memory of the machine, or start fewer slots (`--slots`)")),
    (
        r"out of memory|alloc_failed|allocate memory",
        _fixed("Other processes use the card's memory: `nvidia-smi` lists them. End them, or leave the card out with --gpus"),
    ),
    (
        r"busy or unavailable",
        _fixed("Another process uses the card exclusively: `nvidia-smi` shows its compute mode; `nvidia-smi -c DEFAULT` allows several"),
    ),
    (
        r"invalid device ordinal|No CUDA GPUs are available|no CUDA-capable device|Found no NVIDIA driver|no such device",
        _fixed(
            "There is no such device for this process: check CUDA_VISIBLE_DEVICES and `nvidia-smi -L`; a container needs NVIDIA's runtime "
            "(`docker run --gpus all`, compose.gpu.yml)"
        ),
    ),
    (
        r"uncorrectable|ECC|fallen off the bus|GPU is lost|unspecified launch failure|illegal memory access|misaligned address",
        _fixed("The card or its driver is faulty: look for Xid errors in the kernel's log (dmesg), then reset the card or reboot"),
    ),
    (
        r"not answer|did not finish",
        _fixed("The driver hangs or is slow: look for Xid errors in the kernel's log (dmesg); `nvidia-smi -pm 1` avoids a slow first use"),
    ),
    (
        r"communicate with the NVIDIA driver|driver not loaded",
        _fixed("Load the kernel module (`modprobe nvidia`); if there is none for this kernel, install the driver anew"),
    ),
    (
        r"insufficient permissions|permission.*nvidia|nvidia.*permission",
        _fixed("Give the account of the worker access to /dev/nvidia*, for example by its group"),
    ),
    (
        r"cudnn|cublas|libcu|cannot open shared object|undefined symbol",
        _fixed("CUDA libraries of another version are loaded: unset LD_LIBRARY_PATH, or install torch anew in a fresh environment"),
    ),
)


def remedy(error: str, facts: DeviceFacts | None = None) -> str:
    """What to do about the error, in one or two sentences."""
    for pattern, sentence in REMEDIES:
        if re.search(pattern, error, re.IGNORECASE | re.DOTALL):
            return sentence(error, facts or DeviceFacts())
    return "The log of the worker has the whole error; `thaw doctor` tries the device again"
