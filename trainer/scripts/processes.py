"""What can be measured of running processes and of folders: memory, sizes, kills for lack of memory."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pids: Iterable[int]) -> int:
    """The sum of the resident memory. Memory that processes share counts for each of them."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return total


def proportional_bytes(pids: Iterable[int]) -> int:
    """The memory of the processes together, where shared memory counts once; slower than `resident_bytes`."""
    total = 0
    for pid in pids:
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found is not None else 0
        except FileNotFoundError:  # it has ended, or the kernel has no such file
            total += resident_bytes([pid])
        except OSError:
            continue
    return total


def folder_bytes(folder: Path) -> int:
    """The disk space of a folder's files. Does not follow links; files that vanish meanwhile do not count."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def oom_kills() -> int:
    """The number of processes that the kernel has killed for lack of memory since boot; 0 if unknown."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found.group(1)) if found else 0
