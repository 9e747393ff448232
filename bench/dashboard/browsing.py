"""Loads pages in Chromium, and measures times and bytes."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from shutil import which
from typing import Any, TypeVar

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

T = TypeVar("T")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info")
SIZE: ViewportSize = {"width": 1280, "height": 900}
KEPT = {"Script", "Stylesheet", "Font", "Image"}  # kinds of resources that a browser caches

WATCH = """(conditions) => {
  window.reached = {};
  const wanted = Object.entries(conditions);
  const look = () => {
    for (const [name, holds] of wanted) {
      if (name in window.reached || !document.body || !holds()) continue;
      window.reached[name] = null;
      requestAnimationFrame(() => setTimeout(() => { window.reached[name] = performance.now(); }));  // painted, and free to react
    }
    if (Object.keys(window.reached).length < wanted.length) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({ type: "longtask", buffered: true });
}"""
OURS = {
    "usable": "document.querySelectorAll('#trials tbody tr[id] td').length > 50",
    "figure": "document.querySelector('#history[aria-label] canvas')",
    "drawn": "document.documentElement.dataset.drawn === 'yes'",
}
THEIRS = {
    "usable": "document.querySelectorAll('#plot-history .trace').length > 0",  # the page has no table; this is its first content
    "figure": "document.querySelectorAll('#plot-history .trace').length > 0",
    "drawn": "[...document.querySelectorAll('.js-plotly-plot')].filter((plot) => plot.querySelector('.trace')).length >= 3",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """A loaded page: milliseconds from the start of the navigation, and received bytes."""

    usable: float
    figure: float
    drawn: float
    longest_task: float
    data_bytes: int
    script_bytes: int


class Traffic:
    """Counts received bytes, headers included, by kind of resource."""

    def __init__(self, page: Page) -> None:
        self.bytes = Counter[str]()
        self._kinds: dict[str, str] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.responseReceived", self._begins)
        session.on("Network.loadingFinished", self._ends)
        session.send("Network.enable", {"maxTotalBufferSize": 0})  # otherwise the page's process buffers all responses for this session

    def _begins(self, event: dict[str, Any]) -> None:
        self._kinds[event["requestId"]] = event["type"]

    def _ends(self, event: dict[str, Any]) -> None:
        self.bytes[self._kinds.get(event["requestId"], "Other")] += int(event["encodedDataLength"])

    @property
    def scripts(self) -> int:
        """Bytes of scripts, styles, fonts and images, which the browser caches."""
        return sum(amount for kind, amount in self.bytes.items() if kind in KEPT)

    @property
    def data(self) -> int:
        """Bytes of all other resources."""
        return sum(self.bytes.values()) - self.scripts


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    path = next(filter(None, map(which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def patiently(look: Callable[[], T], good: Callable[[T], bool], seconds: float) -> T:
    """Poll until `good` accepts the value, or `seconds` have passed, and return it. Polled from here: the pages' policy forbids eval."""
    deadline = time.monotonic() + seconds
    while not good(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen


@contextmanager
def opened(context: BrowserContext, address: str, conditions: dict[str, str], seconds: float) -> Iterator[tuple[Page, Visit]]:
    """Load a page until all conditions hold. The time of a condition that does not hold within `seconds` is infinite."""
    page = context.new_page()
    page.set_viewport_size(SIZE)
    traffic = Traffic(page)
    page.add_init_script(f"({WATCH})({{ {', '.join(f'{name}: () => {text}' for name, text in conditions.items())} }})")
    page.goto(address, wait_until="commit")
    whole = len(conditions)
    reached = patiently(lambda: page.evaluate("window.reached ?? {}"), lambda seen: sum(map(bool, seen.values())) == whole, seconds)
    visit = Visit(
        **{name: reached.get(name) or float("inf") for name in ("usable", "figure", "drawn")},
        longest_task=page.evaluate("window.longest"), data_bytes=traffic.data, script_bytes=traffic.scripts,
    )  # fmt: skip
    yield page, visit
    page.close()
