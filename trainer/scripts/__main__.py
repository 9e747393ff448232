"""`python -m trainer.scripts --allow FOLDER [--threads N] [--cpus LIST]`: the process that runs scripts, see `trainer.scripts.host`."""

import argparse
import logging
import os
import time
from pathlib import Path

from trainer.scripts.attempt import GRACE_SECONDS, ScriptOptions
from trainer.scripts.host import serve


def main() -> None:
    """Set threads and CPUs from the command line, then serve."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.scripts",
        description="Read orders from standard input and write messages to standard output, as JSON lines.",
    )
    parser.add_argument("--allow", type=Path, action="append", default=[], help="folder in which scripts may be run; repeatable")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of scripts, unless it is set")
    parser.add_argument("--cpus", type=lambda text: {int(number) for number in text.split(",")}, help="CPUs to run on: 0,1,2; default: all")
    parser.add_argument("--grace-seconds", type=float, default=GRACE_SECONDS, help="seconds that a script has to end on request")
    parser.add_argument("--disk-floor-bytes", type=int, default=0, help="end a script that writes when less disk space is free")
    given = parser.parse_args()
    if given.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, given.cpus)
    if given.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    logging.Formatter.converter = time.gmtime
    allowed = tuple(folder.resolve() for folder in given.allow)
    serve(ScriptOptions(allowed=allowed, grace_seconds=given.grace_seconds, floor_bytes=given.disk_floor_bytes))


if __name__ == "__main__":
    main()
