"""The slots of a worker: which device each one uses, its threads, and the command and environment of its trainer."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Literal

from service.domain.records import UnusableDevice
from service.settings import Settings

MOST_ON_CPU = 4  # default limit, because each slot is a process that imports torch
SECRETS = (
    "THAW_TOKEN",
    "THAW_DATABASE_URL",
    "THAW_WEBHOOKS",
    "THAW_WEBHOOK_SECRET",
    "THAW_MLFLOW_URI",
    "PGPASSWORD",
)  # not passed to trainers, because these load files of third parties
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
SYS = Path("/sys")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator that a trainer can use.

    `id` selects it in the variable that its driver reads: a UUID or an index in the order of the PCI bus. `index` is its number in that
    order as `nvidia-smi` writes it, `0` or for a MIG slice `0:2`.
    """

    id: str
    kind: Literal["cuda", "rocm"]
    name: str
    index: str | None = None
    memory: int | None = None  # bytes
    numa_node: int | None = None

    @property
    def label(self) -> str:
        """The name under which a worker registers the device, such as `cuda:GPU-8f2e1c3a-…`."""
        return f"{self.kind}:{self.id}"

    @property
    def display(self) -> str:
        """A readable name, such as `NVIDIA H200 #0, 141 GB`. The size is in GiB, rounded up, which gives the size that vendors state."""
        number = "" if self.index is None else f" #{self.index}"
        return f"{self.name}{number}" + ("" if self.memory is None else f", {ceil(self.memory / GIB)} GB")


@dataclass(frozen=True, slots=True)
class Slot:
    """Runs one trial, or trials whose heads are trained together, at a time.

    `gpu` is None for a slot on the CPU. A trial uses `threads` threads. Work for many trials uses `most_threads`: the check of the data,
    and runs trained together while no other slot is busy. The trainer is bound to the CPUs `cpus`; empty: to none.
    """

    index: int
    gpu: Device | None
    threads: int
    most_threads: int | None = None  # None: as `threads`
    cpus: tuple[int, ...] = ()
    sharing: int = 1  # number of slots on its device, those of other workers included

    @property
    def label(self) -> str:
        """The name under which a worker registers the slot's device."""
        return "cpu" if self.gpu is None else self.gpu.label

    @property
    def display(self) -> str:
        """The readable name of the slot's device."""
        return "CPU" if self.gpu is None else self.gpu.display

    @property
    def memory(self) -> int | None:
        """Memory of the slot's device in bytes; None if it is unknown."""
        return machine_memory() if self.gpu is None else self.gpu.memory

    def command(self, settings: Settings) -> tuple[str, ...]:
        """The command line of the slot's trainer. `-P` prevents importing a folder named trainer from the working directory."""
        kind = "cpu" if self.gpu is None else "cuda:0"
        options = ["--device", kind, "--threads", str(self.threads), "--disk-floor-bytes", str(settings.disk_floor_bytes)]
        if self.cpus:
            options += ["--cpus", ",".join(map(str, self.cpus))]
        if self.sharing > 1:
            options += ["--device-share", f"1/{self.sharing}"]
        if settings.step_graphs != "off" and self.gpu is not None:
            options += ["--step-graphs", settings.step_graphs]
        if settings.report_examples:
            options += ["--report-examples", str(settings.report_examples)]
        start = (sys.executable, "-P", "-m", "trainer", *options)
        if settings.cache_bytes == 0:
            return start
        return (*start, "--cache", str(settings.home / "cache"), "--cache-bytes", str(settings.cache_bytes))

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The trainer's environment: only its own device is visible, and the variables in SECRETS are removed."""
        kept = without_secrets(inherited)
        if self.gpu is None:
            return {**kept, "CUDA_VISIBLE_DEVICES": ""}
        if self.gpu.kind == "rocm":
            # HIP reads both variables; ROCR_VISIBLE_DEVICES is kept, because HIP counts within the devices that it leaves.
            kept.pop("CUDA_VISIBLE_DEVICES", None)
            return {**kept, "HIP_VISIBLE_DEVICES": self.gpu.id}
        if "PYTORCH_CUDA_ALLOC_CONF" not in kept:  # the older name of the same variable
            # Trials of different example and batch sizes follow each other in one process; fixed segments would fragment its memory.
            kept.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
        # Without it an index counts the fastest device first, and names another device than `nvidia-smi` does.
        return {**kept, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": self.gpu.id}


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """The slots of a worker, those it uses while no device of `slots` works, and drivers that do not work, which have no slot."""

    slots: tuple[Slot, ...]
    fallback: tuple[Slot, ...] = ()  # empty: the worker waits for a device
    faults: tuple[UnusableDevice, ...] = ()
    packed_by: int = 0  # number of workers that each open further slots on the GPUs by what is measured; 0: the slots are fixed


def layout_of(
    found: Sequence[Device],
    available_cores: int,
    count: int | None = None,
    faults: Sequence[UnusableDevice] = (),
    waits: bool = False,
    workers: int = 1,
) -> SlotLayout:
    """The layout for these devices. With `waits` the worker waits for a device that cannot be used instead of using the CPU.

    `workers` is the number of workers, this one included, that have as many slots on each of the devices.
    """
    slots = tuple(replace(slot, sharing=slot.sharing * workers) if slot.gpu else slot for slot in lay_out(found, available_cores, count))
    on_cpu = () if waits or not found else lay_out((), available_cores, count)
    fallback = tuple(replace(slot, index=len(slots) + slot.index) for slot in on_cpu)
    return SlotLayout(slots, fallback, tuple(faults))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables in SECRETS."""
    return {name: value for name, value in environment.items() if name not in SECRETS}


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(_own_cpus()) or os.cpu_count() or 1


def _own_cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def node_cpus(node: int | None, root: Path = SYS, allowed: Callable[[], set[int]] = _own_cpus) -> tuple[int, ...]:
    """The CPUs of a NUMA node that this process may use. Empty if the machine has one node, or the node is unknown."""
    nodes = root / "devices" / "system" / "node"
    if node is None or len(list(nodes.glob("node[0-9]*"))) < 2:
        return ()
    try:
        text = (nodes / f"node{node}" / "cpulist").read_text()
    except OSError:
        return ()
    ranges = [(int(first), int(last or first)) for first, last in re.findall(r"(\d+)(?:-(\d+))?", text)]
    return tuple(sorted({cpu for first, last in ranges for cpu in range(first, last + 1)} & allowed()))


def lay_out(
    found: Sequence[Device],
    available_cores: int,
    count: int | None = None,
    cpus_of: Callable[[int | None], tuple[int, ...]] = node_cpus,
) -> tuple[Slot, ...]:
    """Lay out `count` slots: by default one per GPU, or without GPUs one per core up to MOST_ON_CPU.

    Several trials at once use the cores better than one trial with all of them. Cores are divided among the slots. If there are more
    slots than GPUs, several slots share a GPU. A slot on a GPU is bound to the CPUs of the GPU's NUMA node.
    """
    count = count or len(found) or max(1, min(available_cores, MOST_ON_CPU))
    threads = max(1, available_cores // count)
    on = [found[index % len(found)] if found else None for index in range(count)]
    slots = (_slot(index, gpu, threads, available_cores, cpus_of) for index, gpu in enumerate(on))
    return tuple(slot if slot.gpu is None else replace(slot, sharing=on.count(slot.gpu)) for slot in slots)


def _slot(index: int, gpu: Device | None, threads: int, most_threads: int, cpus_of: Callable[[int | None], tuple[int, ...]]) -> Slot:
    cpus = cpus_of(gpu.numa_node) if gpu is not None else ()
    if not cpus:
        return Slot(index, gpu, threads, most_threads)
    return Slot(index, gpu, min(threads, len(cpus)), min(most_threads, len(cpus)), cpus)


def machine_memory() -> int | None:
    """The machine's memory or its container's limit, whichever is smaller, in bytes."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(whole, int(GROUP_LIMIT.read_text()))
    except (ValueError, OSError):  # "max" (no limit), or no such file
        return whole
