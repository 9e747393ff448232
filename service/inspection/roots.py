"""THAW_DATA_ROOTS: the folders in which data and weights of studies must lie."""

from collections.abc import Sequence
from pathlib import Path


def is_outside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether the path, with symbolic links resolved, lies in none of the roots. False if there are no roots."""
    if not roots:
        return False
    try:
        found = path.resolve()
        return not any(found.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):  # a cycle of symbolic links
        return True


def outside(roots: Sequence[Path]) -> str:
    """The error message for such a path. It is the same for paths that exist and paths that do not."""
    listed = ", ".join(map(str, roots))
    return f"this lies outside the folders that THAW_DATA_ROOTS allows ({listed}); move it, or add its folder to THAW_DATA_ROOTS"
