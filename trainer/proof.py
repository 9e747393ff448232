"""Tests a device before its trainer takes orders: a forward and a backward pass of a small network in each precision."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch.nn import functional

from trainer import devices
from trainer.protocol import DeviceUnusable
from trainer.remedies import UNSUPPORTED, DeviceFacts, remedy

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
CLOSE = {torch.float32: 1e-2, torch.bfloat16: 0.1, torch.float16: 0.05}  # to the loss on the CPU, relative; TF32 may be on
SHORTER = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Computation = Callable[[torch.device, torch.dtype], float]


class Unsupported(Exception):
    """This version does not train on devices of this kind."""


class WrongResult(Exception):
    """The device computes something else than the CPU."""


def prove(device: torch.device, compute: "Computation | None" = None) -> None:
    """Compute on the device in each precision. Raises Unsupported, WrongResult, and any error of torch."""
    if device.type not in ("cpu", "cuda"):
        raise Unsupported(UNSUPPORTED.get(device.type, f"training on {device.type} is not supported by this version"))
    compute = compute or trained_once
    for precision in precisions(device):
        found, expected = compute(device, precision), trained_once(torch.device("cpu"), torch.float32)
        if not abs(found - expected) <= CLOSE[precision] * abs(expected):  # also true for NaN
            name = str(precision).removeprefix("torch.")
            raise WrongResult(f"a small network has loss {found:.6g} in {name} on this device, and {expected:.6g} on the CPU")


def precisions(device: torch.device) -> list[torch.dtype]:
    """float32, and the shorter formats for which the device has matrix units."""
    formats = devices.matrix_formats(device)
    return [torch.float32, *(dtype for name, dtype in SHORTER.items() if name in formats)]


def trained_once(device: torch.device, precision: torch.dtype) -> float:
    """The loss of a convolution and a linear layer after one step of gradient descent. Draws no random numbers."""
    examples = torch.linspace(-1, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16).to(device)
    labels = torch.arange(4).to(device)
    filters = torch.linspace(-1, 1, 8 * 27).sin().reshape(8, 3, 3, 3).to(device).requires_grad_()
    weights = torch.linspace(-1, 1, 8 * 4).cos().reshape(8, 4).to(device).requires_grad_()

    def loss() -> torch.Tensor:
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            scores = functional.conv2d(examples, filters, padding=1).relu().mean((2, 3)) @ weights
        return functional.cross_entropy(scores.float(), labels)

    gradients = torch.autograd.grad(loss(), (filters, weights))
    with torch.no_grad():
        for parameter, gradient in zip((filters, weights), gradients, strict=True):
            parameter -= 0.1 * gradient
        after = loss()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return float(after)


def unusable(error: Exception, device: torch.device) -> DeviceUnusable:
    """The message about a device whose proof raised the error."""
    text = str(error) if isinstance(error, Unsupported | WrongResult) else f"{type(error).__name__}: {error}"
    if isinstance(error, Unsupported):
        return DeviceUnusable(detail=text, remedy="Use the CPU (`--device cpu`)")
    return DeviceUnusable(detail=_first_line(text), remedy=remedy(text, _facts(device)))


def slow(seconds: float) -> DeviceUnusable:
    """The message about a device whose proof has not ended after that time."""
    text = f"the test of the device did not finish within {seconds:g} s; it is awaited"
    return DeviceUnusable(detail=text, remedy=remedy(text))


def _first_line(text: str) -> str:
    """The text without the general advice that torch appends to CUDA's errors."""
    return next(iter(text.strip().splitlines()), "").strip().rstrip(".")


def _facts(device: torch.device) -> DeviceFacts:
    capability, architectures = None, list[str]()
    with suppress(Exception):  # a broken driver raises errors of many types
        capability = torch.cuda.get_device_capability(device)
        architectures = torch.cuda.get_arch_list()
    return DeviceFacts(torch.__version__, torch.version.cuda, _driver(), capability, architectures)


def _driver() -> str | None:
    """The version of NVIDIA's kernel module; None if it is not loaded or, as in WSL, does not state it."""
    with suppress(OSError):
        found = re.search(r"Kernel Module\D*? (?:for \S+ +)?(\d+(?:\.\d+)+)", KERNEL_MODULE.read_text())
        return found[1] if found else None
    return None
