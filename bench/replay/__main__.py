"""`python -m bench.replay`: trains a recorded list of configurations with one engine, or with `all`, and prints the tables.

    python -m bench.replay --list A --engine naive --data digits --sample 8
    python -m bench.replay all --data signs --record
    python -m bench.replay parity --data signs --list B --record
    python -m bench.replay all                        # the digits, and the sign-digits if they exist

The engines run sequentially in their own processes. Wall times run from the start of the first process to the last result. An engine
that is too slow for a list runs a random sample of it, the same for all engines, and its time is extrapolated.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.replay import plan
from bench.replay.orders import ENGINES, Order
from bench.replay.recorded import LISTS
from bench.replay.report import times
from bench.replay.running import run
from bench.replay.served import SWITCHES
from bench.replay.workloads import Workload, digits, signs
from bench.tables import machine, record

DATA = ("digits", "signs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["one", "all", "parity"], default="one")
    parser.add_argument("--data", choices=DATA, help="all: both where they are")
    parser.add_argument("--list", choices=LISTS, dest="recorded", help="all: all of them")
    parser.add_argument("--engine", choices=ENGINES, default="thawline")
    parser.add_argument("--sample", type=int, help="points of the list; by default all of it")
    parser.add_argument("--epochs", type=int, help="in place of the list's, to try things out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loader-workers", type=int, choices=[0, 2], help="of naive and ray; all: found out")
    parser.add_argument("--slots", type=int, choices=[1, 2], help="trials at one time, of ray; all: found out")
    parser.add_argument("--without", choices=SWITCHES, action="append", default=[], help="of thawline")
    parser.add_argument("--thorough", type=int, default=1, help="all: samples so many times as large")
    parser.add_argument(
        "--skip", choices=["ray", *SWITCHES], action="append", default=[], help="of all: an opponent, a part of the ablation"
    )
    parser.add_argument("--record", action="store_true", help="append to RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads(asked.data, Path(folder)):
            if asked.what == "one":
                _one(asked, workload)
            else:
                _lists(asked, workload)


def workloads(data: str | None, folder: Path) -> Iterable[Workload]:
    """The requested workloads; the sign-digits only if they exist or are requested by name."""
    if data in (None, "digits"):
        yield digits(folder)
    if data == "signs":
        yield signs()
    elif data is None:
        try:
            yield signs()
        except FileNotFoundError as error:
            print(f"The sign-digits are left out: {error}")


def _one(asked: argparse.Namespace, workload: Workload) -> None:
    name = asked.recorded or "A"
    order = Order(
        engine=asked.engine, workload=workload, recorded=name, numbers=LISTS[name].sample(asked.sample), seed=asked.seed,
        epochs=asked.epochs, loader_workers=asked.loader_workers or 0, slots=asked.slots or 1, without=tuple(asked.without),
    )  # fmt: skip
    replay = run(order)
    body = times([replay])
    for trial in replay.outcome.trials:
        print(trial)
    print(body)
    if asked.record:
        record(f"Replay {name} by {asked.engine}: {workload.title}: {machine()}", body)


def _lists(asked: argparse.Namespace, workload: Workload) -> None:
    replays = plan.replay_all if asked.what == "all" else plan.parity_alone
    for name in [asked.recorded] if asked.recorded else LISTS:
        wanted = plan.Wanted(asked.epochs, asked.sample, asked.loader_workers, asked.slots, asked.thorough, tuple(asked.skip))
        body = replays(workload, LISTS[name], wanted, say=lambda line: print(line, file=sys.stderr, flush=True))
        what = "Replay" if asked.what == "all" else "Parity"
        title = f"{what} of list {name} ({LISTS[name].what}): {workload.title}: {machine(*plan.versions())}"
        print(f"\n## {title}\n\n{body}\n", flush=True)
        if asked.record:
            record(title, body)


if __name__ == "__main__":
    main()
