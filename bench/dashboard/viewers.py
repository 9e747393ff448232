"""Many viewers for a while: what the server and a real page keep in memory as trials come and go."""

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
SETTLED = 0.25  # of the time is left out: caches fill, the allocator finds its size
RECENT_SECONDS = 0.25  # events that come so close together are read as one change, as the page does


@dataclass(slots=True)
class Heard:
    """What all viewers together were told."""

    events: int = 0
    reads: int = 0
    bytes: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)


class Viewers:
    """So many light clients, each with a stream of its own that reads the table when trials come and go."""

    def __init__(self, address: str, count: int) -> None:
        self.heard = Heard()
        self._api = address.replace("/studies/", "/api/v1/studies/")
        self._count = count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[Heard]:
        """All of them, in a thread beside, until the block ends."""
        self._thread.start()
        try:
            yield self.heard
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
                self.heard.events += 1
                self.heard.lost += event["seq"] != last + 1
                last = event["seq"]
                if event["kind"] != "trial_reported" and time.monotonic() - read_at > RECENT_SECONDS:
                    after = (await self._read(client, after))["seq"]
                    read_at = time.monotonic()

    async def _read(self, client: httpx2.AsyncClient, after: int) -> dict[str, int]:
        answer = await client.get(f"{self._api}/table?after={after}")
        self.heard.reads += 1
        self.heard.bytes += len(answer.content)
        if answer.status_code != 200:
            self.heard.faults.append(f"{answer.status_code} {answer.text[:80]}")
        found: dict[str, int] = answer.json()
        return found


@dataclass(slots=True)
class Course:
    """A figure over time."""

    at: list[float] = field(default_factory=list)  # seconds
    megabytes: list[float] = field(default_factory=list)

    def add(self, at: float, megabytes: float) -> None:
        self.at.append(at)
        self.megabytes.append(megabytes)

    def row(self, name: str, target: str) -> list[str]:
        """First, last, and the slope of a line through what comes after the start, with its standard error."""
        keep = [place for place, at in enumerate(self.at) if at >= SETTLED * self.at[-1]]
        minutes = np.array([self.at[place] / 60 for place in keep])
        sizes = np.array([self.megabytes[place] for place in keep])
        (slope, _), covariance = np.polyfit(minutes, sizes, 1, cov=True)
        told = f"{slope:+.2f} ± {np.sqrt(covariance[0, 0]):.2f} MB a minute"
        return [name, str(len(self.at)), f"{self.megabytes[0]:.1f} MB", f"{sizes[0]:.1f} MB", f"{self.megabytes[-1]:.1f} MB", told, target]


def measure(browser: Browser, folder: Path, server: Server, viewers: int, minutes: float) -> str:
    """The table of the server's and the page's memory."""
    courses = {name: Course() for name in ("server, its own memory", "page, JavaScript heap after collection", "page, its process")}
    with opened(browser.new_context(), server.page, OURS, 60) as (page, _), Viewers(server.page, viewers).watching() as heard:
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
        f" heard {heard.events:,} events (out of order or missing: {heard.lost}), read the table {heard.reads:,} times"
        f" ({heard.bytes / 1e6:.0f} MB unpacked); faults: {len(heard.faults)} {heard.faults[:2] or ''}\n\n{body}"
    )


def _renderer() -> psutil.Process:
    """The busiest of our browser's page processes: the one that drew the page."""
    ours = [one for one in psutil.Process().children(recursive=True) if "--type=renderer" in " ".join(one.cmdline())]
    return max(ours, key=lambda one: one.memory_info().rss)


def _own(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 1e6


def _caught_up(page: Page) -> None:
    page.wait_for_timeout(2000)
