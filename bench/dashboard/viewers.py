"""Measures the memory of the server and of a page over time, with many viewers, while trials start and end."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import psutil
from playwright.sync_api import Browser, Page

from bench.dashboard.browsing import OURS, opened
from bench.dashboard.living import worker
from bench.dashboard.serving import Server
from bench.tables import table

SAMPLE_SECONDS = 5.0
SETTLED = 0.25  # fraction of the time that is left out, in which caches fill and the allocator's size settles
RECENT_SECONDS = 0.25  # events within this time are read as one change, as in the page


@dataclass(slots=True)
class Received:
    """The totals of all viewers."""

    events: int = 0
    reads: int = 0
    bytes: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)


class Viewers:
    """Clients that each follow an event stream, and read the table when trials start or end."""

    def __init__(self, address: str, count: int) -> None:
        self.received = Received()
        self._api = address.replace("/studies/", "/api/v1/studies/")
        self._count = count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[Received]:
        """Run the clients in another thread until the block ends."""
        self._thread.start()
        try:
            yield self.received
        finally:
            self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(20)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._all())

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _all(self) -> None:
        limits = httpx2.Limits(max_connections=2 * self._count)
        async with httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(30, read=60)) as client:
            await asyncio.gather(*(self._view(client) for _ in range(self._count)), return_exceptions=True)

    async def _view(self, client: httpx2.AsyncClient) -> None:
        after = (await self._read(client, 0))["seq"]
        last = after
        async with client.stream("GET", f"{self._api}/events?after={after}") as stream:
            read_at = time.monotonic()
            async for line in stream.aiter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line[5:])
                self.received.events += 1
                self.received.lost += event["seq"] != last + 1
                last = event["seq"]
                if event["kind"] != "trial_reported" and time.monotonic() - read_at > RECENT_SECONDS:
                    after = (await self._read(client, after))["seq"]
                    read_at = time.monotonic()

    async def _read(self, client: httpx2.AsyncClient, after: int) -> dict[str, int]:
        answer = await client.get(f"{self._api}/table?after={after}")
        self.received.reads += 1
        self.received.bytes += len(answer.content)
        if answer.status_code != 200:
            self.received.faults.append(f"{answer.status_code} {answer.text[:80]}")
        found: dict[str, int] = answer.json()
        return found


@dataclass(slots=True)
class Course:
    """A measured value over time."""

    at: list[float] = field(default_factory=list)  # seconds
    megabytes: list[float] = field(default_factory=list)

    def add(self, at: float, megabytes: float) -> None:
        self.at.append(at)
        self.megabytes.append(megabytes)

    def row(self, name: str, target: str) -> list[str]:
        """First and last value, and the slope of a fitted line after the start, with its standard error."""
        keep = [place for place, at in enumerate(self.at) if at >= SETTLED * self.at[-1]]
        minutes = np.array([self.at[place] / 60 for place in keep])
        sizes = np.array([self.megabytes[place] for place in keep])
        (slope, _), covariance = np.polyfit(minutes, sizes, 1, cov=True)
        trend = f"{slope:+.2f} ± {np.sqrt(covariance[0, 0]):.2f} MB a minute"
        return [name, str(len(self.at)), f"{self.megabytes[0]:.1f} MB", f"{sizes[0]:.1f} MB", f"{self.megabytes[-1]:.1f} MB", trend, target]


def measure(browser: Browser, folder: Path, server: Server, viewers: int, minutes: float) -> str:
    """The table of the memory of server and page."""
    courses = {name: Course() for name in ("server, its own memory", "page, JavaScript heap after collection", "page, its process")}
    with opened(browser.new_context(), server.page, OURS, 60) as (page, _), Viewers(server.page, viewers).watching() as received:
        collect = page.context.new_cdp_session(page)
        renderer = _renderer()
        time.sleep(5)
        rows = page.evaluate("Number(document.querySelector('#trials').getAttribute('aria-rowcount')) - 1")
        with worker(folder, "--lanes", "8", "--step-seconds", "0.5", "--steps", "20"):
            began = time.monotonic()
            while (at := time.monotonic() - began) < 60 * minutes:
                collect.send("HeapProfiler.collectGarbage")
                heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
                sizes = server.megabytes, heap, _own(renderer)
                for course, value in zip(courses.values(), sizes, strict=True):
                    course.add(at, value)
                print(f"{at:.0f} s: {', '.join(f'{one:.1f}' for one in sizes)} MB", flush=True)
                page.wait_for_timeout(1000 * SAMPLE_SECONDS)
        _caught_up(page)
        more = page.evaluate("Number(document.querySelector('#trials').getAttribute('aria-rowcount')) - 1") - rows
    body = table(
        ["what", "n", "at first", "after the start", "at last", "slope", "target"],
        [course.row(name, "flat") for name, course in courses.items()],
    )
    return (
        f"{viewers} viewers and a page in Chromium, {minutes:g} minutes, {more} new trials of 20 steps by another process. The viewers"
        f" received {received.events:,} events (out of order or missing: {received.lost}), read the table {received.reads:,} times"
        f" ({received.bytes / 1e6:.0f} MB unpacked); faults: {len(received.faults)} {received.faults[:2] or ''}\n\n{body}"
    )


def _renderer() -> psutil.Process:
    """The renderer process of the page: the one of the browser with the most processor time."""
    ours = [one for one in psutil.Process().children(recursive=True) if "--type=renderer" in " ".join(one.cmdline())]
    return max(ours, key=lambda one: one.memory_info().rss)


def _own(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 1e6


def _caught_up(page: Page) -> None:
    page.wait_for_timeout(2000)
