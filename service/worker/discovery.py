"""Finds the accelerators of this machine: what the environment names, then NVIDIA's driver, then torch in a process of its own."""

import atexit
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

from service.domain.records import UnusableDevice
from service.worker.devices import GIB, SYS, Device, without_secrets
from trainer.remedies import UNSUPPORTED, DeviceFacts, remedy

log = logging.getLogger(__name__)
T = TypeVar("T")

SLOW_SECONDS = 10.0  # after which a driver that has not answered is logged
QUERY_SECONDS = 60.0  # of a driver; without persistence mode it initialises each card anew
TORCH_SECONDS = 120.0  # of torch's query, which imports torch first
MOST_CHARACTERS = 400  # of what a failed tool printed
TOOL_FOLDERS = ("/usr/lib/wsl/lib", "/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin")  # besides PATH; the first is WSL's
DRIVER = "NVIDIA driver"
VALID = re.compile(r"\d+|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+")
SMI_GPU = re.compile(r"^GPU (\d+): (.*) \(UUID: (GPU-[0-9a-f-]+)\)", re.MULTILINE)
SMI_SLICE = re.compile(r"^[ \t]+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[0-9a-zA-Z/-]+)\)", re.MULTILINE)
SMI_FACTS = re.compile(r"^[ \t]*(\d+),\s*(GPU-[0-9a-f-]+),\s*(.*?),\s*(\S+),\s*([0-9A-Fa-f:.]+)\s*$", re.MULTILINE)
SLICE_GIB = re.compile(r"\.(\d+)gb")
MIB = 2**20
NODES = {"nvidia": ("nvidiactl", "nvhost-gpu", "nvmap", "dxg"), "amd": ("kfd",)}  # of /dev: cards, Jetson, WSL; AMD
TORCH_QUERY = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}
found.update(devices=[], arch=[], other=None, error=None)
try:
    if torch.cuda.is_available():
        torch.cuda.init()
        found["arch"] = torch.cuda.get_arch_list()
        for number in range(torch.cuda.device_count()):
            one = torch.cuda.get_device_properties(number)
            place = [getattr(one, part, None) for part in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
            bus = None if None in place else "%08x:%02x:%02x.0" % tuple(place)
            found["devices"].append({"name": one.name, "memory": one.total_memory, "bus": bus})
    elif torch.accelerator.is_available():
        found["other"] = torch.accelerator.current_accelerator().type
    elif torch.version.cuda or torch.version.hip:
        torch.cuda.init()
except Exception as error:
    found["error"] = "%s: %s" % (type(error).__name__, error)
print(json.dumps(found))
"""


class Unanswered(Exception):
    """A driver or tool gave no answer. The message names it and the reason."""


class _Hung(Unanswered):
    """A driver did not answer in time."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """The devices that were found, what was tried, and a driver that is installed but does not work."""

    devices: tuple[Device, ...]
    tried: tuple[str, ...]
    fault: UnusableDevice | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What discovery reads. Tests replace the parts."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    nvml: Callable[[], Any] = lambda: import_module("pynvml")
    torch: Sequence[str] = (sys.executable, "-P", "-c", TORCH_QUERY)
    dev: Path = Path("/dev")
    sys: Path = SYS
    system: str = f"{platform.system()} {platform.machine()}"
    tool_folders: Sequence[str] = TOOL_FOLDERS
    query_seconds: float = QUERY_SECONDS
    slow_seconds: float = SLOW_SECONDS

    def has_node(self, vendor: str) -> bool:
        """Whether the kernel has a device node of that vendor's driver."""
        return any((self.dev / name).exists() for name in NODES[vendor])

    def has_card(self) -> bool:
        """Whether there is a card, not only a virtual machine's interface to one of any vendor."""
        return any((self.dev / name).exists() for vendor in NODES.values() for name in vendor if name != "dxg")


def find_devices(sources: Sources | None = None) -> Discovery:
    """Find the accelerators that this process may use."""
    search = _Search(sources or Sources())
    devices = search.devices()
    return Discovery(tuple(devices), tuple(search.tried), None if devices else search.fault)


class _Search:
    """One search. Each step that found nothing adds a line to `tried`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.tried = list[str]()
        self.fault: UnusableDevice | None = None

    def devices(self) -> Sequence[Device]:
        if self._sources.has_node("amd") and not self._sources.has_node("nvidia"):
            return self._amd_devices()
        allowed = self._allowed("CUDA_VISIBLE_DEVICES")
        if allowed is not None and not allowed:
            return ()
        known = self._from_driver()
        if allowed is not None:
            return self._named(allowed, known)
        return known or self._from_torch()

    def _allowed(self, variable: str) -> list[str] | None:
        """The entries of the variable up to the first one that is not valid, as CUDA reads it; None if it is not set."""
        if (text := self._sources.environment.get(variable)) is None:
            self.tried.append(f"{variable} is not set")
            return None
        found = list[str]()
        for entry in filter(None, map(str.strip, text.split(","))):
            if not VALID.fullmatch(entry):
                self.tried.append(f"{variable}: what follows {entry!r} is ignored")
                break
            if entry in found:
                self.tried.append(f"{variable} names {entry} twice, which allows no device")
                return []
            found.append(entry)
        if not found:
            self.tried.append(f"{variable}={text} allows no device")
        return found

    def _named(self, allowed: Sequence[str], known: Sequence[Device]) -> list[Device]:
        """The devices that the environment names, with the facts of the driver where it gave them."""
        found = list[Device]()
        for entry in allowed:
            if not known:  # the trainer's proof decides whether the device is there
                found.append(Device(entry, "cuda", "GPU", entry if entry.isdecimal() else None))
            elif matching := [device for device in known if _is_named(device, entry)]:
                # A whole card with MIG enabled gives CUDA its first slice.
                found.append(replace(matching[0], id=entry) if entry.isdecimal() and ":" not in str(matching[0].index) else matching[0])
            else:
                self.tried.append(f"CUDA_VISIBLE_DEVICES: the driver has no device {entry}; it and what follows it are ignored")
                if not found:
                    self._blame("GPU", f"CUDA_VISIBLE_DEVICES names {entry}, but the driver has no such device")
                break
        return found

    def _from_driver(self) -> Sequence[Device]:
        """The devices that NVML or nvidia-smi list."""
        asks: Sequence[tuple[str, Callable[[], list[Device]]]] = (("NVML", self._from_nvml), ("nvidia-smi", self._from_smi))
        for name, ask in asks:
            try:
                if devices := _within(self._sources, name, ask):
                    return devices
                self.tried.append(f"{name} lists no device")
                if self.fault is not None:  # cards without MIG slices, which nvidia-smi would list as whole ones
                    return ()
            except _Hung as hung:
                self.tried.append(str(hung))
                self._blame(DRIVER, str(hung))
                return ()  # nvidia-smi and torch would wait for the same driver
            except Unanswered as error:
                self.tried.append(str(error))
                if "not found" not in str(error).lower():  # else there is no driver, or only a part of it
                    self._blame(DRIVER, str(error))
        return ()

    def _from_nvml(self) -> list[Device]:
        with opened_nvml(self._sources) as nvml:
            return [device for index in range(nvml.nvmlDeviceGetCount()) for device in self._nvml_devices(nvml, index)]

    def _nvml_devices(self, nvml: Any, index: int) -> Iterator[Device]:
        """The card with that index, or its MIG slices."""
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        node = None
        with suppress(nvml.NVMLError):
            node = self._numa_node(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
        if not _has_slices(nvml, handle):
            yield _nvml_device(nvml, handle, str(index), node)
            return
        has_slice = False
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                piece = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            except nvml.NVMLError:  # no slice at this place
                continue
            has_slice = True
            yield _nvml_device(nvml, piece, f"{index}:{number}", node)
        if not has_slice:
            self._blame("GPU", f"{_text(nvml.nvmlDeviceGetName(handle))} #{index} has MIG enabled, but no slice")

    def _from_smi(self) -> list[Device]:
        listed = self._run_smi("-L")
        facts = {uuid: (memory, bus) for _, uuid, _, memory, bus in SMI_FACTS.findall(self._smi_facts())}
        heads = list(SMI_GPU.finditer(listed))
        found = list[Device]()
        for place, head in enumerate(heads):
            index, name, uuid = head.groups()
            memory, bus = facts.get(uuid, ("", ""))
            node = self._numa_node(bus)
            below = listed[head.end() : heads[place + 1].start() if place + 1 < len(heads) else None]
            slices = [
                Device(piece, "cuda", f"{name} MIG {profile}", f"{index}:{number}", _nominal(profile), node)
                for profile, number, piece in SMI_SLICE.findall(below)
            ]
            found += slices or [Device(uuid, "cuda", name, index, int(memory) * MIB if memory.isdecimal() else None, node)]
        return found

    def _smi_facts(self) -> str:
        try:
            return self._run_smi("--query-gpu=index,uuid,name,memory.total,pci.bus_id", "--format=csv,noheader,nounits")
        except Unanswered as error:
            self.tried.append(f"memory of the devices is unknown: {error}")
            return ""

    def _run_smi(self, *options: str) -> str:
        path = os.pathsep.join((self._sources.environment.get("PATH", os.defpath), *self._sources.tool_folders))
        if (tool := shutil.which("nvidia-smi", path=path)) is None:
            raise Unanswered("nvidia-smi is not found on PATH")
        return _run("nvidia-smi", (tool, *options), self._sources.environment, self._sources.query_seconds)

    def _from_torch(self) -> Sequence[Device]:
        """The devices that torch can use. Importing torch takes seconds, so it is asked only where a device can be."""
        if self.fault is not None:
            self.tried.append(
                f"torch was not asked: {'the driver does not work' if self.fault.device == DRIVER else 'no card can be used'}"
            )
            return ()
        if self._sources.system == "Darwin arm64":
            self.tried.append(UNSUPPORTED["mps"])
            return ()
        if not self._sources.has_node("nvidia") and not _is_built_for_other_devices():
            self.tried.append(f"torch was not asked: {self._sources.dev} has no device of an NVIDIA or AMD driver")
            return ()
        return self._torch_devices("cuda", None)

    def _amd_devices(self) -> Sequence[Device]:
        """AMD's devices, which torch lists. HIP reads its own variable first, then CUDA's; both count within ROCR_VISIBLE_DEVICES."""
        for variable in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
            if (allowed := self._allowed(variable)) is not None:
                return self._torch_devices("rocm", allowed) if allowed else ()
        if (allowed := self._allowed("ROCR_VISIBLE_DEVICES")) is not None:
            return self._torch_devices("rocm", [str(place) for place in range(len(allowed))]) if allowed else ()
        return self._torch_devices("rocm", None)

    def _torch_devices(self, kind: Any, ids: Sequence[str] | None) -> list[Device]:
        """Torch's devices with the given ids; None: with their places as ids."""
        try:
            answer = ask_torch(self._sources)
        except Unanswered as error:
            self.tried.append(str(error))
            self._blame("GPU", str(error))
            return [Device(name, kind, "GPU", name if name.isdecimal() else None) for name in ids or ()]
        kind = "rocm" if answer["hip"] else "cuda"
        listed: list[dict[str, Any]] = answer["devices"]
        if (other := answer["other"]) is not None:
            self.tried.append(UNSUPPORTED.get(other, f"training on {other} is not supported by this version"))
        elif not listed:
            reason = answer["error"] or ("it lists no device" if answer["cuda"] or answer["hip"] else "it is built without CUDA")
            self.tried.append(f"torch {answer['torch']}: {reason}")
            if self._sources.has_card():
                self._blame("GPU", f"torch {answer['torch']}: {reason}", DeviceFacts(answer["torch"], answer["cuda"]))
        names = list(ids or map(str, range(len(listed))))
        return [
            Device(name, kind, one["name"], name if name.isdecimal() else None, one["memory"], self._numa_node(one["bus"] or ""))
            for name, one in zip(names, listed, strict=False)
        ]

    def _blame(self, device: str, detail: str, facts: DeviceFacts | None = None) -> None:
        if self.fault is None:  # a later error often only follows from the first
            self.fault = UnusableDevice(device, device, detail, remedy(detail, facts))

    def _numa_node(self, bus: str) -> int | None:
        """The NUMA node of a PCI address such as `00000000:65:00.0`; None if the kernel does not state it."""
        domain, _, rest = bus.lower().partition(":")
        with suppress(OSError, ValueError):
            node = int((self._sources.sys / "bus" / "pci" / "devices" / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
            return node if node >= 0 else None
        return None


def driver_version(sources: Sources | None = None) -> str:
    """The version of NVIDIA's driver by NVML, such as 550.54.15. Raises Unanswered."""
    sources = sources or Sources()

    def ask() -> str:
        with opened_nvml(sources) as nvml:
            return _text(nvml.nvmlSystemGetDriverVersion())

    return _within(sources, "NVML", ask)


@contextmanager
def opened_nvml(sources: Sources) -> Iterator[Any]:
    """The module pynvml while NVML is initialised. Raises Unanswered for its errors."""
    try:
        nvml = sources.nvml()
    except ImportError:
        raise Unanswered("NVML was not asked: nvidia-ml-py is not found") from None
    try:
        nvml.nvmlInit()
        try:
            yield nvml
        finally:
            nvml.nvmlShutdown()  # else this process keeps the driver's files open
    except nvml.NVMLError as error:
        raise Unanswered(f"NVML: {error}") from None


def ask_torch(sources: Sources | None = None) -> dict[str, Any]:
    """Torch's version, the CUDA or ROCm that it is built for, and its devices, found by a process of its own. Raises Unanswered."""
    sources = sources or Sources()
    environment = {**without_secrets(sources.environment), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    try:
        answer: dict[str, Any] = json.loads(_run("torch", sources.torch, environment, max(TORCH_SECONDS, sources.query_seconds)))
    except ValueError as error:
        raise Unanswered(f"torch: unreadable answer: {error}") from None
    return answer


def select(found: Sequence[Device], wanted: str) -> tuple[Device, ...]:
    """The devices that a list of indices and ids names, such as `0,2` or `GPU-8f2e1c3a,0:1`. Raises ValueError with the devices found."""
    chosen = list[Device]()
    for entry in filter(None, map(str.strip, wanted.split(","))):
        matching = [device for device in found if _is_named(device, entry)]
        if not matching:
            known = "; ".join(f"{device.display} ({device.id})" for device in found) or "none"
            raise ValueError(f"there is no GPU {entry} here; found: {known}")
        chosen += [device for device in matching if device not in chosen]
    if not chosen:
        raise ValueError("no GPU is named; write indices or UUIDs, such as 0,2")
    return tuple(chosen)


def _within(sources: Sources, name: str, call: Callable[[], T]) -> T:
    """The result of the call, which a thread makes, because a call into a driver that hangs cannot be ended. Raises _Hung."""
    result = list[T]()
    errors = list[Exception]()

    def work() -> None:
        try:
            result.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(sources.slow_seconds)
    if thread.is_alive():
        log.warning("%s has not answered for %g s; waiting up to %g s", name, sources.slow_seconds, sources.query_seconds)
        thread.join(max(0.0, sources.query_seconds - sources.slow_seconds))
    if thread.is_alive():
        raise _Hung(f"{name} did not answer within {sources.query_seconds:g} s")
    if errors:
        raise errors[0]
    return result[0]


_tools = set[subprocess.Popen[str]]()  # running ones


@atexit.register
def _kill_tools() -> None:
    """Kill the tools that threads still wait for when this process exits, as after a signal during the search."""
    for tool in list(_tools):
        tool.kill()


def _run(name: str, command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    try:
        tool = subprocess.Popen(  # noqa: S603  (a fixed list)
            list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=dict(environment)
        )
    except OSError as error:
        raise Unanswered(f"{name}: {error}") from None
    _tools.add(tool)
    try:
        with tool:
            try:
                output, errors = tool.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise _Hung(f"{name} did not answer within {seconds:g} s") from None
            finally:
                tool.kill()  # no effect on one that has exited
    finally:
        _tools.discard(tool)
    if tool.returncode != 0:
        printed = "; ".join((output + errors).strip().splitlines())
        raise Unanswered(f"{name} failed with exit code {tool.returncode}: {printed[-MOST_CHARACTERS:] or 'no output'}")
    return output


def _has_slices(nvml: Any, handle: Any) -> bool:
    """Whether MIG is enabled on the card."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:  # the card has no MIG
        return False


def _nvml_device(nvml: Any, handle: Any, index: str, node: int | None) -> Device:
    memory = None
    with suppress(nvml.NVMLError):  # cards that share the machine's memory do not state it
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Device(_text(nvml.nvmlDeviceGetUUID(handle)), "cuda", _text(nvml.nvmlDeviceGetName(handle)), index, memory, node)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _nominal(profile: str) -> int | None:
    """The memory of a MIG profile such as `1g.10gb`, in bytes."""
    size = SLICE_GIB.search(profile)
    return int(size[1]) * GIB if size else None


def _is_named(device: Device, entry: str) -> bool:
    """Whether the entry is the device's index, that of its card, its id or the beginning of its id."""
    if entry.replace(":", "").isdecimal():
        return device.id == entry or device.index == entry or str(device.index).partition(":")[0] == entry
    return device.id.startswith(entry) or device.label == entry


def _is_built_for_other_devices() -> bool:
    """Whether the installed torch is built for Intel or AMD, by the name of its version."""
    try:
        return any(mark in metadata.version("torch") for mark in ("+xpu", "+rocm"))
    except metadata.PackageNotFoundError:
        return False
