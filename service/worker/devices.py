"""The devices of this machine, their memory, and the slots on them."""

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
MOST_ON_CPU = 4  # default limit, because each slot is a process that imports torch
SECRETS = ("THAW_TOKEN", "THAW_DATABASE_URL", "PGPASSWORD")  # not passed to trainers, because these load files of third parties
GPU_LINE = re.compile(r"^GPU \d+: .*\(UUID: (GPU-[0-9a-f-]+)\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Slot:
    """Runs one trial, or trials whose heads are trained together, at a time.

    `gpu` is the value of CUDA_VISIBLE_DEVICES (an index or a UUID), None for a slot on the CPU. A trial uses `threads` threads. Work for
    many trials uses `most_threads`: the check of the data, and runs trained together while no other slot is busy.
    """

    index: int
    gpu: str | None
    threads: int
    most_threads: int | None = None  # None: as `threads`
    sharing: int = 1  # number of slots on its device

    @property
    def device(self) -> str:
        """The device's name for display."""
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    def command(self, settings: Settings) -> tuple[str, ...]:
        """The command line of the slot's trainer. `-P` prevents importing a folder named trainer from the working directory."""
        kind = "cpu" if self.gpu is None else "cuda:0"
        options = ("--device", kind, "--threads", str(self.threads), "--disk-floor-bytes", str(settings.disk_floor_bytes))
        share = ("--device-share", f"1/{self.sharing}") if self.sharing > 1 else ()
        start = (sys.executable, "-P", "-m", "trainer", *options, *share)
        if settings.cache_bytes == 0:
            return start
        return (*start, "--cache", str(settings.home / "cache"), "--cache-bytes", str(settings.cache_bytes))

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The trainer's environment: only its own device is visible, and the variables in SECRETS are removed."""
        kept = {name: value for name, value in inherited.items() if name not in SECRETS}
        return {**kept, "CUDA_VISIBLE_DEVICES": self.gpu or ""}


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs available to this process: those in CUDA_VISIBLE_DEVICES if it is set, else all that nvidia-smi lists."""
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
    """The UUIDs in the output of `nvidia-smi -L`."""
    return tuple(GPU_LINE.findall(answer))


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lay_out(found: Sequence[str], available_cores: int, count: int | None = None) -> tuple[Slot, ...]:
    """Lay out `count` slots: by default one per GPU, or without GPUs one per core up to MOST_ON_CPU.

    Several trials at once use the cores better than one trial with all of them. Cores are divided among the slots. If there are more
    slots than GPUs, several slots share a GPU.
    """
    count = count or len(found) or max(1, min(available_cores, MOST_ON_CPU))
    threads = max(1, available_cores // count)
    on = [found[index % len(found)] if found else None for index in range(count)]
    return tuple(Slot(index, gpu, threads, available_cores, sharing=1 if gpu is None else on.count(gpu)) for index, gpu in enumerate(on))


ASK_SECONDS = 30
MIB = 2**20
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
LINE = re.compile(r"^[ \t]*(\d+),[ \t]*(GPU-[0-9a-f-]+),[ \t]*(\d+)[ \t]*$", re.MULTILINE)


def memory_of(gpus: Iterable[str | None]) -> tuple[int | None, ...]:
    """Memory of each device in bytes: of a GPU given by index or UUID, or of the machine for None. None if it is unknown."""
    wanted = tuple(gpus)
    on_gpus = _gpu_memory() if any(gpu is not None for gpu in wanted) else {}
    return tuple(_machine_memory() if gpu is None else on_gpus.get(gpu) for gpu in wanted)


def listed_memory(answer: str) -> Mapping[str, int]:
    """Memory in bytes by index and by UUID, from the output of nvidia-smi."""
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
    """The machine's memory or its container's limit, whichever is smaller, in bytes."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(whole, int(GROUP_LIMIT.read_text()))
    except (ValueError, OSError):  # "max" (no limit), or no such file
        return whole
