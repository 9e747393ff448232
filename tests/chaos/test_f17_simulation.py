"""F17: thousands of seeds, each a study among workers, reapers, people and faults on a virtual clock."""

import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from service.store import Store
from tests.chaos.lab import LONG, planted, publish
from tests.chaos.simulation.run import open_quickly, simulate
from tests.forking import forkserver

SECONDS = 120.0 if planted() else 30.0  # of the short form
SEEDS = 50_000  # of the long one
FEWEST = 25  # even on a machine that is busy with other things
ALONE = os.environ.get("THAW_CHAOS_SEED")
KINDS = ("workers killed", "processes frozen", "workers cut off", "outages", "servers restarted", "leases expired", "writes refused")


@pytest.fixture
def local(sqlite_template: Path, tmp_path: Path) -> Iterator[Store]:
    """A database that all seeds share, one study after the other."""
    file = tmp_path / "simulation.db"
    shutil.copyfile(sqlite_template, file)
    with quiet(), closing(open_quickly(file)) as opened:
        yield opened


class quiet:
    """The workers' complaints are many, and none of them is news here."""

    def __enter__(self) -> None:
        logging.disable(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)


def test_no_seed_breaks_a_promise(local: Store, sqlite_template: Path, tmp_path: Path) -> None:
    """I1, I7-I18, I24, I27: whatever is killed, frozen, cut off or asked for twice; and every study ends once the faults stop."""
    first = int(ALONE) if ALONE else random.SystemRandom().randrange(2**32)
    begun = time.monotonic()
    if ALONE:
        total = some(local, first, 1)
    elif LONG:
        total = on_all_cores(first, sqlite_template, tmp_path)
    else:
        total = some(local, first, SEEDS, seconds=SECONDS)
    took = time.monotonic() - begun
    figures = {"scenario": "F17", "database": "sqlite", "seed": first, "seeds a second": round(total["seeds"] / took, 1), **total}
    publish(figures)
    assert ALONE or (total["seeds"] >= FEWEST and all(total[kind] for kind in KINDS)), f"too little happened: {figures}"


def some(local: Store, first: int, count: int, seconds: float = float("inf")) -> Counter[str]:
    """So many seeds from the first one on, or as many as the seconds allow; what happened in them."""
    deadline, total = time.monotonic() + seconds, Counter[str]()
    for seed in range(first, first + count):
        total += simulate(local, seed).counts
        total["seeds"] += 1
        if time.monotonic() > deadline and total["seeds"] >= FEWEST:
            break
    return total


def on_all_cores(first: int, template: Path, folder: Path) -> Counter[str]:
    """The long form: each core has its share of the seeds, and a database."""
    cores = os.cpu_count() or 1
    share = -(-SEEDS // cores)
    with ProcessPoolExecutor(cores, mp_context=forkserver()) as pool:
        runs = [pool.submit(a_share, template, folder / f"{core}.db", first + core * share, share) for core in range(cores)]
        return sum((run.result() for run in runs), Counter[str]())


def a_share(template: Path, file: Path, first: int, count: int) -> Counter[str]:
    shutil.copyfile(template, file)
    with quiet(), closing(open_quickly(file)) as local:
        return some(local, first, count)


def test_a_seed_is_the_same_again(local: Store) -> None:
    for seed in range(3):
        assert simulate(local, seed).trace() == simulate(local, seed).trace()
