"""Measures how long 16 concurrent clients wait for a claim over REST, compared with the claim of a worker process on the same database.

    python -m bench.claims [--record] [--clients 16] [--claims 1008] [--rounds 3] [--only sqlite|postgresql]

A client is a process that claims a trial, completes it and claims the next one at once. Over REST the claims go through one server
process and the client of `thaw trial` and `import thawline`, with an Idempotency-Key each; the other side calls `operations.claim_together`
as worker processes do. Each side has a database of its own with the same study, sampled at random. The sides run alternately.
Only claims are timed. No trial may be claimed twice.
"""

import argparse
import contextlib
import multiprocessing
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from bench.contention import make_ours, percentiles
from bench.control_plane import postgresql
from bench.tables import machine, record, table
from service import operations
from service.client import ClaimKey, Client
from service.operations import Searches, Write
from service.rest_models import ClaimView, TrialView
from service.settings import Settings
from service.store import open_store
from trainer.protocol import Finished

REST, NATIVE = "over REST", "worker process"
STUDY = "bench"
METRICS = {"accuracy": 0.5}
Claimed = list[tuple[float, int]]  # seconds of the claim, and the number of its trial


def run_server(url: str, home: str, ready: Connection) -> None:
    """Serve the database on a free port, and send the address."""
    from service.web.serve import serve

    serve(Settings(home=Path(home), database_url=url, writes_per_second=1_000_000), port=0, ready=ready.send)


@contextlib.contextmanager
def served(url: str, home: str) -> Iterator[str]:
    """The address of a server process."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe()
    process = context.Process(target=run_server, args=(url, home, there))
    process.start()
    try:
        yield str(here.recv())
    finally:
        process.terminate()
        process.join()


def over_rest(address: str, name: str, count: int) -> Claimed:
    with Client(address) as client:
        return [_over_rest(client, name) for _ in range(count)]


def _over_rest(client: Client, name: str) -> tuple[float, int]:
    started = time.perf_counter()
    claim = client.claim(STUDY, name)
    seconds = time.perf_counter() - started
    assert isinstance(claim, ClaimView), claim
    client.about_claim(TrialView, "finish", ClaimKey(claim.claim, claim.token), {"metrics": METRICS})
    return seconds, claim.number


def natively(url: str, name: str, count: int) -> Claimed:
    with contextlib.closing(open_store(url)) as store:
        searches, claimed = Searches(), Claimed()
        while len(claimed) < count:
            started = time.perf_counter()
            claims = operations.claim_together(store, searches, name, 0)
            seconds = time.perf_counter() - started
            for claim in claims:
                claimed.append((seconds, claim.lease.number))
                report: dict[str, object] = {"per_class_recall": {}, "confusion_matrix": ()}
                done = Finished(step=1, metrics=METRICS, report=report, train_seconds=1.0, peak_memory=1)
                operations.record(store, [Write(claim.lease, outcome=done)])
        return claimed


def work(side: str, place: str, begin: float, number: int, count: int) -> Claimed:
    """Claim so many trials from the wall time `begin` on. The first claim, in which statements are compiled, is not counted."""
    time.sleep(max(0.0, begin - time.time()))
    claim = {REST: over_rest, NATIVE: natively}[side]
    return claim(place, f"client-{number}", count + 1)


def crowd(side: str, place: str, clients: int, count: int) -> Claimed:
    """What all clients claimed at the same time; those of the first claims come last."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(clients, mp_context=context) as pool:
        list(pool.map(abs, range(4 * clients)))  # waits until every process has started
        begin = time.time() + 2
        lives = [pool.submit(work, side, place, begin, number, count) for number in range(clients)]
        found = [life.result() for life in lives]
    return [one for own in found for one in own[1:]] + [own[0] for own in found]


def compare(kind: str, new_url: Callable[[str], str], clients: int, claims: int, rounds: int) -> list[tuple[object, ...]]:
    """The rows of the table for one kind of database."""
    urls = {REST: new_url("rest"), NATIVE: new_url("native")}
    for url in urls.values():
        make_ours(url)
    each = -(-claims // (clients * rounds))
    seconds: dict[str, list[float]] = {side: [] for side in urls}
    numbers: dict[str, list[int]] = {side: [] for side in urls}
    with tempfile.TemporaryDirectory() as home, served(urls[REST], home) as address:
        for _ in range(rounds):
            for side, place in ((REST, address), (NATIVE, urls[NATIVE])):
                found = crowd(side, place, clients, each)
                seconds[side] += [one for one, _ in found[: clients * each]]
                numbers[side] += [number for _, number in found]
    rows = list[tuple[object, ...]]()
    for side in urls:
        doubled = sum(count > 1 for count in Counter(numbers[side]).values())
        assert not doubled, f"{doubled} trials were claimed twice {side}"
        middle, high = percentiles(seconds[side])
        rows.append(
            (f"{kind}: {side}", f"{len(seconds[side]):,}", doubled, f"{middle:.1f}", f"{high:.1f}", f"{1e3 * max(seconds[side]):.1f}")
        )
    (rest, native) = (percentiles(seconds[side]) for side in (REST, NATIVE))
    rows.append((f"{kind}: over REST / worker process", "", "", *(f"{a / b:.2g}" for a, b in zip(rest, native, strict=True)), ""))
    return rows


HEAD = ("claim", "n", "claimed twice", "p50 ms", "p99 ms", "longest ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--claims", type=int, default=1_008)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["bench.contention", "service.web.serve", "service.web.app"])
    rows: list[tuple[object, ...]] = []
    sizes = (given.clients, given.claims, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if given.only in (None, "sqlite"):
            rows += compare("SQLite", lambda name: f"sqlite:///{folder}/{name}.db", *sizes)
        if given.only in (None, "postgresql"):
            with postgresql() as new_url:
                rows += compare("PostgreSQL", new_url, *sizes)
    body = table(HEAD, rows)
    print(body)
    if given.record:
        title = f"Claims by {given.clients} clients at once: {machine(f'SQLite {sqlite3.sqlite_version}')}"
        record(title, f"{given.rounds} rounds a side, in turn. `python -m bench.claims`.\n\n{body}")


if __name__ == "__main__":
    main()
