"""How much memory the devices of a worker have, as far as the machine tells without torch."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

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
