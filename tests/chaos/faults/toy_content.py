"""A toy trainer whose data is the file THAW_CHAOS_IMAGE: its content gives the fingerprint, and a run refuses a file that was changed."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

IMAGE = "THAW_CHAOS_IMAGE"


def fingerprint() -> str:
    return hashlib.sha256(Path(os.environ[IMAGE]).read_bytes()).hexdigest()


def install() -> None:
    toy: Any = sys.modules["__main__"]
    run, tell = toy.run, toy.tell

    def run_if_unchanged(order: dict[str, Any], *rest: Any) -> None:
        if order["expected"]["fingerprint"] != fingerprint():
            tell("failed", reason="bad_data", detail="the images have changed since the study was checked", step=0)
        else:
            run(order, *rest)

    def tell_of_content(kind: str, **fields: Any) -> None:
        if "facts" in fields:
            fields["facts"] = fields["facts"] | {"fingerprint": fingerprint()}
        tell(kind, **fields)

    toy.run, toy.tell = run_if_unchanged, tell_of_content
