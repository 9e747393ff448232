"""A toy trainer whose machine has the data only while the folder of THAW_CHAOS_MOUNT is there and holds something."""

import os
import sys
from pathlib import Path
from typing import Any

from tests.chaos.history import note

MOUNT = "THAW_CHAOS_MOUNT"


def is_mounted() -> bool:
    return any(Path(os.environ[MOUNT]).glob("*"))


def install() -> None:
    toy: Any = sys.modules["__main__"]
    run, tell = toy.run, toy.tell

    def run_if_mounted(order: dict[str, Any], *rest: Any) -> None:
        if is_mounted():
            run(order, *rest)
        else:
            cannot_read("run")

    def tell_if_mounted(kind: str, **fields: Any) -> None:
        if kind == "checked" and not is_mounted():
            cannot_read("check")
        else:
            tell(kind, **fields)

    def cannot_read(order: str) -> None:
        note("unreadable", order=order)
        mount = os.environ[MOUNT]
        tell("unavailable", what="data", detail=f"there is no folder {mount}", paths=[mount])

    toy.run, toy.tell = run_if_mounted, tell_if_mounted
