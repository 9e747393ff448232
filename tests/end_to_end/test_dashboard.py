"""The dashboard as a person meets it: a real server with a worker that trains, a real browser, and a cable that can be cut."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright

from tests.chaos.proxy import Proxy
from tests.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

THAW = Path(sys.executable).parent / "thaw"
HOSTILE = "<img src=x onerror=alert(1)>"  # the name of the study, and of a class
TRIALS = 16
SLOW = 300_000  # milliseconds; a machine with other work trains slowly
CUT = "Failed to load resource: net::"  # what a browser says of a connection that somebody cut


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits in a folder a class, and weights to begin with; one class has a name that no page may believe."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [sys.executable, "-P", "-m", "trainer.tasks.image_classification.demo", str(folder)], check=True, capture_output=True, timeout=600
    )
    (folder / "digits" / "7").rename(folder / "digits" / HOSTILE)
    return folder


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of a server with a worker."""
    monkeypatch.setenv("THAW_HOSTS", "127.0.0.1")  # whatever the port: the browser comes by the proxy's
    with served(THAW, tmp_path / "thaw", workers=1) as address, closing(Proxy(urlsplit(address).port or 80)) as proxy:
        yield proxy


@pytest.fixture
def page(cable: Proxy, browser_path: str) -> Iterator[Page]:
    """A page that says nothing on its console, opens no dialog of its own, and asks nobody but the server."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(base_url=f"http://127.0.0.1:{cable.port}")
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error.stack or error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: None if urlsplit(request.url).port == cable.port else complaints.append(request.url))
        yield page
        browser.close()
    assert [text for text in complaints if not text.startswith(CUT)] == []


def call(proxy: Proxy, method: str, path: str) -> Any:
    """What the server says to somebody else than the page."""
    port = proxy.target
    request = Request(f"http://127.0.0.1:{port}/api/v1{path}", method=method, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def fill_in(page: Page, data: Path) -> None:
    """The form of a study that trains in seconds."""
    page.goto("/new")
    page.get_by_label("Name", exact=True).fill(HOSTILE)
    page.get_by_label("Path of the data", exact=True).fill(str(data / "digits"))
    page.get_by_label("Model", exact=True).select_option("small_cnn")
    page.get_by_label("Weights", exact=True).fill(str(data / "small_cnn.safetensors"))
    page.get_by_label("Preset", exact=True).select_option(index=0)
    page.get_by_label("Add a parameter", exact=True).select_option("lr")
    for name, value in {"epochs": "2", "image_size": "16", "batch_size": "64"}.items():
        page.get_by_label("Fix a value", exact=True).select_option(name)
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_label("Trials", exact=True).fill(str(TRIALS))
    page.get_by_label("Sampler", exact=True).select_option("random")
    page.get_by_label("Pruner", exact=True).select_option("none")
    page.get_by_label("Best configurations", exact=True).fill("2")
    page.get_by_role("textbox", name="Seeds", exact=True).fill("2")
    expect(page.locator("#verdict")).to_contain_text("Ready to create")


def no_image(page: Page) -> None:
    """Nobody took the name for markup."""
    assert page.locator("img[src=x]").count() == 0


def numbers(page: Page) -> set[int]:
    """Of the trials in the table; only those in view are in the page."""
    found: set[int] = set()
    for place in ("0", "node.scrollHeight / 2", "node.scrollHeight"):
        page.locator("#trials").locator("..").evaluate(f"(node) => {{ node.scrollTop = {place}; }}")
        page.wait_for_timeout(100)
        found |= {
            int(one.removeprefix("trial-"))
            for one in page.locator("#trials tbody tr[id]").evaluate_all("(rows) => rows.map((row) => row.id)")
        }
    return found


def test_a_study_is_made_watched_paused_compared_and_taken_home(page: Page, cable: Proxy, data: Path, tmp_path: Path) -> None:
    study = f"/studies/{quote(HOSTILE, safe='')}"
    fill_in(page, data)
    no_image(page)
    page.get_by_role("button", name="Create the study").click()

    # Its trials arrive, without a reload.
    expect(page.locator("#name")).to_have_text(HOSTILE)
    page.evaluate("window.same = true")
    expect(page.locator("#trial-1")).to_be_visible(timeout=SLOW)
    expect(page.locator("#trial-0")).to_contain_text("complete", timeout=SLOW)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_contain_text("paused")
    no_image(page)

    # The cable is cut. Somebody else lets the study go on, and it ends while the page hears nothing.
    cable.refusing = True
    assert cable.end() > 0
    expect(page.locator("#live")).to_have_text("reconnecting")
    call(cable, "POST", f"{study}/resume")
    for _ in range(SLOW // 100):
        if call(cable, "GET", study)["state"] == "complete":
            break
        page.wait_for_timeout(100)
    assert len(numbers(page)) < TRIALS
    cable.refusing = False
    expect(page.locator("#state")).to_contain_text("complete", timeout=SLOW)
    expect(page.locator("#state")).to_contain_text("confirmed")
    done = call(cable, "GET", f"{study}/confirmation")["runs"]["done"]
    assert done in (4, 6), "two seeds of the two best, and of the baseline where it is not one of them"
    expect(page.locator(".arms-canvas .run")).to_have_count(done)
    expect(page.locator("#trials")).to_have_attribute("aria-rowcount", str(TRIALS + 1))
    assert numbers(page) == set(range(TRIALS))
    assert page.evaluate("window.same") is True

    compare_two(page)
    download(page, cable, study, tmp_path)
    for address in ("/", f"{study}/trials/0"):
        page.goto(address)
        expect(page.locator("main")).to_contain_text(HOSTILE)
        no_image(page)
    copy_with_a_parameter_of_that_name(page)


def compare_two(page: Page) -> None:
    """From the table to the comparison."""
    for number in (0, 1):
        page.get_by_role("checkbox", name=f"Choose trial {number}", exact=True).check()
    page.locator("#compare").click()
    expect(page).to_have_url(re.compile(r"/compare\?trial="))
    expect(page.locator("#contenders > li")).to_have_count(2)
    expect(page.locator("#differing")).to_contain_text("lr")
    expect(page.locator("#recall")).to_contain_text(HOSTILE)  # the class of that name
    no_image(page)


def download(page: Page, cable: Proxy, study: str, folder: Path) -> None:
    """The file is the one that the interface gives, and holds what the page shows."""
    page.goto(f"{study}/best")
    expect(page.locator("#title")).to_contain_text(HOSTILE)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download YAML").click()
    downloading.value.save_as(folder / "best.yaml")
    taken = yaml.safe_load((folder / "best.yaml").read_text())
    assert taken == call(cable, "GET", f"{study}/best?format=json")
    assert HOSTILE in page.locator("#file").inner_text()
    no_image(page)


def copy_with_a_parameter_of_that_name(page: Page) -> None:
    """The form of the study's copy; the server's word on a parameter that nobody has."""
    page.goto(f"/new?from={quote(HOSTILE)}")
    expect(page.get_by_label("Name", exact=True)).to_have_value(f"{HOSTILE}-copy")
    page.get_by_role("tab", name="YAML or JSON").click()
    text = page.locator("#text")
    document = yaml.safe_load(text.input_value())
    document["search_space"][HOSTILE] = {"type": "float", "low": 0, "high": 1}
    text.fill(yaml.safe_dump(document))
    expect(page.locator("#verdict")).to_contain_text(HOSTILE)
    no_image(page)
    page.get_by_role("tab", name="Form").click()
    expect(page.locator("#form")).to_contain_text(HOSTILE)
    no_image(page)
