"""A process whose wall clock is wrong: it goes ahead or behind, at another rate, and jumps when a file says so.

Its monotonic clock stays as it is, as it does on a machine whose time of day is set. PostgreSQL's own clock cannot be set without setting
the machine's; in its place each statement is noted that asks a database for the time.
"""

import json
import os
import re
import time
from pathlib import Path

from sqlalchemy import Engine, event

from service import timing
from tests.chaos.history import note

FILE = "THAW_CHAOS_CLOCK"  # of JSON: {"offset": seconds, "rate": seconds a second}; it may be written anew at any time

ASKS_THE_TIME = re.compile(r"\b(now\(|\w+_timestamp\b|current_(time|date)\b|localtime|julianday|strftime)", re.I)

_true_time = time.time


def install() -> None:
    file, began = Path(os.environ[FILE]), _true_time()

    def wrong() -> float:
        shift = json.loads(file.read_text())
        now = _true_time()
        return float(began + (now - began) * shift["rate"] + shift["offset"])

    time.time = wrong
    timing._STARTED_AT = wrong() - timing._elapsed()  # as if the process had started under this clock
    looked_at = False

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal looked_at
        if not looked_at:
            looked_at = True
            note("statements looked at")
        if ASKS_THE_TIME.search(statement):
            note("asked for the time", statement=statement)

    event.listen(Engine, "before_cursor_execute", look)
