"""Measures an open page: scrolling of its table, and the delay until it shows changes of another process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from bench.dashboard.browsing import OURS, opened, patiently
from bench.dashboard.serving import Server
from bench.tables import table

FRAMES = """() => {
  window.frames_seen = [];
  let last = null;
  const note = (now) => {
    if (last !== null) window.frames_seen.push(now - last);
    last = now;
    if (window.frames_seen) requestAnimationFrame(note);
  };
  requestAnimationFrame(note);
}"""
AWAIT_ROW = """(number) => {
  window.seen_at = null;
  const look = () => {
    const row = document.getElementById(`trial-${number}`);
    if (row && row.offsetHeight) setTimeout(() => { window.seen_at = performance.timeOrigin + performance.now(); });
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
LONG_FRAME = 50.0  # milliseconds
SPEED = 4_000  # pixels a second
DISTANCE = 24_000  # pixels


@contextmanager
def worker(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to the Thawline database; see `bench.dashboard.worker`."""
    command = [sys.executable, "-m", "bench.dashboard.worker", f"sqlite:///{folder / 'thawline.db'}", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()
        process.wait(30)


def coming_into_view(page: Page) -> list[float]:
    """Milliseconds between frames while the page scrolls to the table, which loads Plotly below it."""
    page.evaluate(FRAMES)
    page.locator("#trials").locator("..").scroll_into_view_if_needed()
    time.sleep(5)
    return _frames(page)


def scrolling(page: Page) -> list[float]:
    """Milliseconds between frames while the table is scrolled with the mouse wheel."""
    box = page.locator("#trials").locator("..").bounding_box()
    assert box
    page.evaluate(FRAMES)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    gesture = {**at, "yDistance": -DISTANCE, "speed": SPEED, "gestureSourceType": "mouse"}
    page.context.new_cdp_session(page).send("Input.synthesizeScrollGesture", gesture)
    return _frames(page)


def _frames(page: Page) -> list[float]:
    seen: list[float] = page.evaluate("[...window.frames_seen]")
    page.evaluate("window.frames_seen = null")
    return sorted(seen)


def arrivals(page: Page, folder: Path, count: int, pause_seconds: float = 0.7) -> list[float]:
    """Milliseconds from the commit of a new trial by another process to its painted row on the page."""
    late: list[float] = []
    with worker(folder) as process:
        assert process.stdin and process.stdout
        page.evaluate("document.querySelector('#trials').parentElement.scrollTop = 0")
        known = page.evaluate("Number(document.querySelector('#trials').getAttribute('aria-rowcount')) - 1")
        for number in range(known, known + count):
            page.evaluate(AWAIT_ROW, number)
            process.stdin.write("start\n")
            process.stdin.flush()
            claimed, at = process.stdout.readline().split()
            assert int(claimed) == number, f"trial {claimed} came in place of {number}"
            seen = patiently(lambda: page.evaluate("window.seen_at"), bool, 10)
            assert seen, f"trial {number} did not appear"
            late.append(seen - 1000 * float(at))
            time.sleep(pause_seconds)
            process.stdin.write(f"finish {number}\n")
            process.stdin.flush()
            process.stdout.readline()
            time.sleep(pause_seconds)
    return late


def measure(browser: Browser, folder: Path, server: Server, count: int) -> str:
    """The table of the results."""
    with opened(browser.new_context(), server.page, OURS, 60) as (page, _):
        time.sleep(3)
        coming, frames = coming_into_view(page), scrolling(page)
        late = sorted(arrivals(page, folder, count))
    long = sum(1 for frame in frames if frame > LONG_FRAME)
    rows = [
        ["frames while the table comes into view, and Plotly's script below it", *_told(coming, 1), ""],
        ["frames while the table of all trials scrolls", *_told(frames, 1), f"smooth; {long} were above {LONG_FRAME:.0f} ms"],
        ["from a new trial's commit to its row", *_told(late, 0), "300 ms"],
    ]
    return table(["what", "n", "median, ms", "95th percentile, ms", "worst, ms", "target"], rows)


def _told(ordered: list[float], digits: int) -> list[str]:
    return [str(len(ordered)), *(f"{_at(ordered, share):.{digits}f}" for share in (0.5, 0.95, 1.0))]


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
