"""Takes the screenshots of docs/dashboard.md from a real study.

    python -m bench.dashboard.pictures HOME [--only study --only trial …]

HOME is the home of a finished `thaw --home HOME demo`. A server with a worker is started on it, with a second study on the same digits,
so that trials are running. Every page is then opened in headless Chromium, and fails if it logs to the console.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, Page, ViewportSize

from bench.dashboard.browsing import chromium, patiently
from service.cli.demo import NAME, DemoFiles, study_document

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 250_000
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
AGAIN = "digits-again"
CONFIRMED = "digits-confirmed"
CONFIRMED_SECONDS = 550
SETTLE_MILLISECONDS = 1_500


@dataclass(frozen=True, slots=True)
class Picture:
    """A file in docs/images, and the page that it shows."""

    file: str
    address: str
    colours: Literal["light", "dark"] = "light"
    size: ViewportSize | None = None
    height: int | None = None  # pixels; by default the height of the window
    prepare: Callable[[Page], None] = lambda page: None


def _scroll_to(selector: str) -> Callable[[Page], None]:
    def prepare(page: Page) -> None:
        for _ in range(2):  # content that comes into view may grow
            page.locator(selector).evaluate("(node) => scrollTo(0, node.getBoundingClientRect().top + scrollY - 16)")
            page.wait_for_timeout(SETTLE_MILLISECONDS)

    return prepare


def _unfold(selector: str) -> Callable[[Page], None]:
    def prepare(page: Page) -> None:
        page.locator(f"{selector} > summary").click()
        page.wait_for_timeout(2 * SETTLE_MILLISECONDS)
        _scroll_to(selector)(page)

    return prepare


def _fill(page: Page) -> None:
    page.get_by_label("Name", exact=True).fill("flowers")
    page.get_by_label("Path of the data", exact=True).fill("/data/flowers")
    page.get_by_label("Location", exact=True).select_option(index=1)
    page.wait_for_timeout(SETTLE_MILLISECONDS)


PICTURES = (
    Picture("studies.png", "/", height=440),
    Picture("study.png", f"/studies/{NAME}", height=1250),
    Picture("study-dark.png", f"/studies/{NAME}", "dark", height=1250),
    Picture("table.png", f"/studies/{NAME}?sort=-value", prepare=_scroll_to("section:has(#trials)")),
    Picture("figures.png", f"/studies/{NAME}?figure=slice", prepare=_scroll_to("#analysis"), height=536),
    Picture("phone.png", f"/studies/{NAME}", size=PHONE),
    Picture("trial.png", f"/studies/{NAME}/trials/BEST", height=1250),
    Picture("compare.png", f"/compare?trial={NAME}:0&trial={NAME}:BEST", height=1250),
    Picture("best.png", f"/studies/{CONFIRMED}/best"),
    Picture("confirmation.png", f"/studies/{CONFIRMED}", prepare=_scroll_to("#confirmation"), height=700),
    Picture("confirmation-phone.png", f"/studies/{CONFIRMED}", size=PHONE, prepare=_scroll_to("#confirmation")),
    Picture("pruning.png", f"/studies/{NAME}", prepare=_unfold("#pruning"), height=640),
    Picture("workers.png", "/workers", height=520),
    Picture("new.png", "/new", prepare=_fill),
)


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--only", action="append", help="stem of a file; may be repeated")
    args = parser.parse_args()
    wanted = [one for one in PICTURES if args.only is None or Path(one.file).stem in args.only]
    with _served(args.home.absolute()) as address, chromium() as browser:
        best = str(_call(f"{address}/api/v1/studies/{NAME}")["best"]["number"])
        _confirm(address, args.home)
        _begin_another(address, args.home)
        for picture in wanted:
            _take(browser, address, best, picture)


@contextmanager
def _served(home: Path) -> Iterator[str]:
    command = [sys.executable, "-P", "-m", "service.cli", "serve", "--port", "0", "--workers", "1"]
    environment = {**os.environ, "THAW_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found.group()
        server.terminate()


def _begin(address: str, home: Path, name: str, trials: int, **changes: object) -> None:
    """Create a study on the demo's digits, unless it exists."""
    known = [study["name"] for study in _call(f"{address}/api/v1/studies")["studies"]]
    if name not in known:
        prepared = DemoFiles(data=home.absolute() / "demo" / "digits", weights=home.absolute() / "demo" / "small_cnn.safetensors")
        _call(f"{address}/api/v1/studies", {**study_document(prepared, name, trials), **changes})


def _confirm(address: str, home: Path) -> None:
    """Create a study and wait until its confirmation is done."""
    data = {"path": str(home.absolute() / "demo" / "digits"), "validation": 0.3, "test": 0.3}
    _begin(address, home, CONFIRMED, 30, data=data, confirm={"top": 3, "seeds": 5})
    patiently(lambda: _call(f"{address}/api/v1/studies/{CONFIRMED}")["phase"], lambda phase: phase == "done", CONFIRMED_SECONDS)


def _begin_another(address: str, home: Path) -> None:
    """Create a study that runs while the screenshots are taken."""
    _begin(address, home, AGAIN, 400, sampler={"name": "random", "seed": 1})
    study = f"{address}/api/v1/studies/{AGAIN}"
    patiently(lambda: _call(study)["counts"]["complete"] > 20, bool, 120)


def _call(address: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def _take(browser: Browser, address: str, best: str, picture: Picture) -> None:
    size = picture.size or DESK
    page = browser.new_page(
        base_url=address,
        color_scheme=picture.colours,
        viewport={"width": size["width"], "height": picture.height or size["height"]},
        reduced_motion="reduce",
    )
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(picture.address.replace("BEST", best))
    page.wait_for_timeout(2 * SETTLE_MILLISECONDS)
    picture.prepare(page)
    page.screenshot(path=IMAGES / picture.file)
    page.close()
    bytes_ = (IMAGES / picture.file).stat().st_size
    print(f"{picture.file}: {bytes_ / 1000:.0f} kB {said or ''}")
    assert not said and bytes_ < MOST_BYTES, picture.file


if __name__ == "__main__":
    main()
