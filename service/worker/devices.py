"""The devices of this machine: slots, and the memory of a process."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings

QUERY_TIMEOUT_SECONDS = 30
MOST_ON_CPU = 4  # by default: each is a process with torch in it
SECRETS = ("THAW_TOKEN", "THAW_DATABASE_URL", "PGPASSWORD")  # a trainer loads what people published; it needs neither
GPU_LINE = re.compile(r"^GPU \d+: .*\(UUID: (GPU-[0-9a-f-]+)\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one trial: `gpu` is what CUDA_VISIBLE_DEVICES shall hold (an index or a UUID), None for a slot on the CPU.

    A trial has `threads`. What is done once for many trials has `most_threads`: the check of the data, and a shared pass while no other
    slot is busy.
    """

    index: int
    gpu: str | None
    threads: int
    most_threads: int | None = None  # None: no more

    @property
    def device(self) -> str:
        """The device's name for people."""
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    def command(self, settings: Settings) -> tuple[str, ...]:
        """How to start its trainer. `-P`: a folder named trainer in the working directory is not ours."""
        kind = "cpu" if self.gpu is None else "cuda:0"
        options = ("--device", kind, "--threads", str(self.threads), "--disk-floor-bytes", str(settings.disk_floor_bytes))
        start = (sys.executable, "-P", "-m", "trainer", *options)
        if settings.cache_bytes == 0:
            return start
        return (*start, "--cache", str(settings.home / "cache"), "--cache-bytes", str(settings.cache_bytes))

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The trainer's environment: it sees its own device and no other, and no secret of the control plane."""
        kept = {name: value for name, value in inherited.items() if name not in SECRETS}
        return {**kept, "CUDA_VISIBLE_DEVICES": self.gpu or ""}


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES when it is set, else all that nvidia-smi lists."""
    if (allowed := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    if (tool := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=QUERY_TIMEOUT_SECONDS, check=True)  # noqa: S603  (a fixed list)
    except (OSError, subprocess.SubprocessError):
        return ()
    return listed_gpus(answer.stdout)


def listed_gpus(answer: str) -> tuple[str, ...]:
    """The UUIDs in the answer of `nvidia-smi -L`."""
    return tuple(GPU_LINE.findall(answer))


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lay_out(found: Sequence[str], available_cores: int, count: int | None = None) -> tuple[Slot, ...]:
    """`count` slots, by default one a GPU, and on a CPU one a core up to MOST_ON_CPU, since several trials side by side keep cores
    busier than one on all of them; more slots than GPUs share them in turn, the cores are divided.
    """
    count = count or len(found) or max(1, min(available_cores, MOST_ON_CPU))
    threads = max(1, available_cores // count)
    return tuple(Slot(index, found[index % len(found)] if found else None, threads, available_cores) for index in range(count))


ASK_SECONDS = 30
MIB = 2**20
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
LINE = re.compile(r"^[ \t]*(\d+),[ \t]*(GPU-[0-9a-f-]+),[ \t]*(\d+)[ \t]*$", re.MULTILINE)


def memory_of(gpus: Iterable[str | None]) -> tuple[int | None, ...]:
    """Bytes of each device: of a GPU by its index or UUID, of the machine for None; None where it could not be told."""
    wanted = tuple(gpus)
    on_gpus = _gpu_memory() if any(gpu is not None for gpu in wanted) else {}
    return tuple(_machine_memory() if gpu is None else on_gpus.get(gpu) for gpu in wanted)


def listed_memory(answer: str) -> Mapping[str, int]:
    """Bytes by index and by UUID, from the answer of nvidia-smi."""
    found = LINE.findall(answer)
    return {key: int(mebibytes) * MIB for index, uuid, mebibytes in found for key in (index, uuid)}


def _gpu_memory() -> Mapping[str, int]:
    if (tool := shutil.which("nvidia-smi")) is None:
        return {}
    command = [tool, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)  # noqa: S603  (a fixed list)
    except (OSError, subprocess.SubprocessError):
        return {}
    return listed_memory(answer.stdout)


def _machine_memory() -> int | None:
    """Bytes that processes here may have: the machine's, or what its container is allowed."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(whole, int(GROUP_LIMIT.read_text()))
    except (ValueError, OSError):  # "max", or no such group
        return whole
