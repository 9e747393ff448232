"""A process that claims trials of the study, reports and ends them like a worker, and prints the time of each commit.

    python -m bench.dashboard.worker DATABASE_URL [--lanes 8 --step-seconds 0.5 --steps 20]

Without `--lanes` it reads one command per line: `start` claims a trial and prints its number and the time (seconds since 1970) directly
after the commit; `finish NUMBER` ends the trial. With `--lanes N`, N trials run at once until standard input ends. It prints `ready`
first.
"""

import argparse
import random
import sys
import threading
import time
from collections.abc import Sequence

from service import operations
from service.domain.records import Claim, MetricReport
from service.operations import Searches, Write
from service.store import Store, open_store
from trainer.protocol import Finished

STEPS = 200


class Bench:
    """Running trials, by number."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.searches = Searches()
        self.running: dict[int, Claim] = {}

    def start(self) -> tuple[int, float]:
        """Claim a trial. Returns its number and the time of the commit."""
        [claim] = operations.claim_together(self.store, self.searches, "bench-worker", lane_bytes=0)
        at = time.time()
        self.running[claim.lease.number] = claim
        return claim.lease.number, at

    def report(self, number: int, step: int) -> None:
        """Report an epoch of the trial."""
        self._write(number, [MetricReport(step, metrics(step))])

    def finish(self, number: int, step: int = STEPS) -> None:
        """End the trial."""
        last = metrics(step)
        done = Finished(step=step, metrics=last, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1.0, peak_memory=1)
        self._write(number, [MetricReport(step, last)], done)
        del self.running[number]

    def _write(self, number: int, reports: Sequence[MetricReport], outcome: Finished | None = None) -> None:
        write = Write(self.running[number].lease, reports=list(reports), outcome=outcome)
        assert operations.record(self.store, [write]) == []


def metrics(step: int) -> dict[str, float]:
    """Four metrics with the names of the other trials."""
    share = 0.9 - 0.8 / (1 + step / 10) + random.uniform(-0.02, 0.02)
    return {"accuracy": share, "loss": 1 - share, "f1": share, "recall": share}


def obey(bench: Bench) -> None:
    """Execute commands from standard input."""
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "start":
            print(*bench.start(), flush=True)
        else:
            bench.finish(int(rest[0]))
            print("done", flush=True)


def work(bench: Bench, lanes: int, step_seconds: float, steps: int) -> None:
    """Run several trials at once, each with a report per interval, until standard input ends."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    under_way: dict[int, int] = {}
    while not ended.wait(step_seconds / lanes):
        if len(under_way) < lanes:
            under_way[bench.start()[0]] = 0
            continue
        number = next(iter(under_way))
        step = under_way.pop(number) + 1
        if step < steps:
            bench.report(number, step)
            under_way[number] = step
        else:
            bench.finish(number, step)


def main() -> None:
    """Execute commands, or run trials with `--lanes`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database_url")
    parser.add_argument("--lanes", type=int, default=0)
    parser.add_argument("--step-seconds", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    bench = Bench(open_store(args.database_url))
    print("ready", flush=True)
    if args.lanes:
        work(bench, args.lanes, args.step_seconds, args.steps)
    else:
        obey(bench)


if __name__ == "__main__":
    main()
