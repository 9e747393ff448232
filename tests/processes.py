"""What the kernel knows of other processes, for tests that start some and want none left."""

from pathlib import Path


def children(parent: int) -> set[int]:
    """The living processes that have this parent."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def below(parent: int) -> set[int]:
    """The process's children, and theirs."""
    own = children(parent)
    return own.union(*map(below, own))


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
