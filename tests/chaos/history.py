"""What the processes of a scenario note while it runs. Toy trainers note too, so nothing heavy is imported here."""

import json
import os
import time
from pathlib import Path
from typing import Any

HISTORY = "THAW_CHAOS_HISTORY"  # the folder; each process has a file of its own


def note(kind: str, **facts: Any) -> None:
    """One line into this process's own history file. Appended in one write, so that a kill leaves it whole or absent."""
    line = json.dumps({"kind": kind, "pid": os.getpid(), "at": time.monotonic(), **facts}) + "\n"
    descriptor = os.open(Path(os.environ[HISTORY]) / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
