"""What holds for every page: hostile text stays text, and paper shows what there is to read."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport
from service.store import queries
from tests.operations.driving import TEST_IMAGES, scored
from tests.web.laboratory import ENVIRONMENT, FACTS, Laboratory, study_document
from tests.web.server import Served
from trainer.protocol import Failed
from trainer.tasks.images.config import NearDuplicates

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(7)><b id=hurt>\"'&amp;${1}"
OF_TEXT = "img[src='x'], [onerror], #hurt"  # elements that a text would have become
PAPER = {"width": 794, "height": 1123}  # pixels: A4
LEFT_OUT = ("Delete", "Copy", "Queue a trial", "Compare with the best", "New study", "Download YAML")
READ = {
    "/": ("printed", "90.00 %", "confirmed"),
    "/studies/printed": ("Confirmation", "Tuning helped", "Search so far", "Learning curves", "Trials", "Data and model"),
    "/studies/printed/best": ("Tuning helped", "thaw train printed-best.yaml", "schema_version: 2"),
    "/studies/printed/trials/1": ("It completed all its 3 epochs", "Parameters", "Confusion", "Recall of each class"),
    "/compare?trial=printed:0&trial=printed:1": ("Trial 0", "Trial 1"),
    "/workers": ("Workers",),
}


def made(lab: Laboratory, name: str, text: str) -> str:
    """The id of a study that has confirmed its best, with this text wherever somebody's words may stand."""
    reported = {"confirm": {"top": 1, "seeds": 2}, "budget": {"trials": 3}, "baseline": {"lr": 0.01, "optimizer": "sgd"}}
    document = study_document(name, **reported)
    document["data"] = {"path": f"/data/{text}", "location": "workers", "test": 0.2}
    study = operations.create_study(lab.store, parse_study(document))
    twins = NearDuplicates(groups=1, images=2, crossing=1, mixed=1, examples=((f"{text}/1.png", f"{text}/2.png"),))
    images = {"train": 600, "validation": 200, "test": TEST_IMAGES}
    classes = (text, f"{text} too")
    operations.pass_check(lab.store, study.id, FACTS.model_copy(update={"classes": classes, "images": images, "near_duplicates": twins}))
    baseline, best, failed = lab.claims_from(name, 50)
    for claim, value in ((baseline, 0.5), (best, 0.9)):
        done = scored(value, value).model_copy(update={"test": None, "per_class_recall": dict.fromkeys(classes, value)})
        write(lab, claim, [MetricReport(1, {"accuracy": value / 2}), MetricReport(3, {"accuracy": value, "loss": 0.1})], done, f"{text}\n")
    write(lab, failed, [], Failed(reason="crashed", detail=text), f"{text}\n")
    for retried in range(2):  # a process that crashes is tried again
        again = [claim for claim in lab.claims_from(name, 50) if claim.lease.number == failed.lease.number]
        for claim in again:
            write(lab, claim, [], Failed(reason="crashed", detail=f"{text} {retried}"), f"{text}\n")
    confirm(lab, name, text)
    return study.id


def confirm(lab: Laboratory, name: str, text: str) -> None:
    while claims := lab.claims_from(name, 50) or lab.claims_from(name, 50):
        for claim in claims:
            trial = lab.store.read(queries.find_trial, claim.lease.study, claim.lease.number)
            write(lab, claim, [], scored(0.8, 0.5 if trial.confirms == 0 else 0.85 + 0.01 * (trial.round or 0)), f"{text}\n")


def write(lab: Laboratory, claim: Claim, reports: list[MetricReport], outcome: object, log: str) -> None:
    reported = operations.Write(claim.lease, reports=reports, outcome=outcome, log=log, result={**ENVIRONMENT, "trainable": 1})  # type: ignore[arg-type]
    assert operations.record(lab.store, [reported]) == []


@pytest.fixture
def dark(browser: Browser, live: Served) -> Iterator[Page]:
    """A page as large as paper, on a dark screen."""
    page = browser.new_page(base_url=live.address, color_scheme="dark", viewport=PAPER)  # type: ignore[arg-type]
    yield page
    page.close()


def test_text_that_means_harm_stays_text_on_every_page(page: Page, live_lab: Laboratory) -> None:
    key = made(live_lab, HOSTILE, HOSTILE)
    assert live_lab.store.read(queries.find_study, key).state == "complete"
    seen = {
        "/": HOSTILE, f"/studies/{key}": HOSTILE, f"/studies/{key}?figure=slice": HOSTILE, f"/studies/{key}/best": HOSTILE,
        f"/studies/{key}/best?format=card": HOSTILE, f"/studies/{key}/best?format=python": "Trains trial",
        f"/studies/{key}/trials/1": f"{HOSTILE} too", f"/studies/{key}/trials/2": f": {HOSTILE}", f"/studies/{key}/trials/3": HOSTILE,
        f"/compare?trial={key}:0&trial={key}:1": HOSTILE, "/workers": "Workers", f"/new?from={key}": HOSTILE,
    }  # fmt: skip
    for address, text in seen.items():
        page.goto(address)
        shown = page.get_by_label("Name", exact=True) if address.startswith("/new") else page.locator("#main")
        if address.startswith("/new"):
            expect(shown).to_have_value(f"{text}-copy")
        else:
            expect(shown).to_contain_text(text, use_inner_text=False)
        for details in page.locator("details").all():
            details.evaluate("node => node.open = true")
        page.wait_for_load_state("networkidle") if "/new" in address else page.wait_for_timeout(400)
        for frame in page.frames:
            assert frame.locator(OF_TEXT).count() == 0, (address, frame.url)
    page.goto(f"/studies/{key}")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    assert page.locator(OF_TEXT).count() == 0


def test_paper_shows_what_there_is_to_read_in_black_on_white(dark: Page, live_lab: Laboratory) -> None:
    made(live_lab, "printed", "cats")
    for address, words in READ.items():
        dark.goto(address)
        for word in words:
            expect(dark.locator("#main")).to_contain_text(word)
        dark.emulate_media(media="print", color_scheme="dark")
        for word in words:
            expect(dark.locator("#main").get_by_text(word).locator("visible=true").first).to_be_visible()
        for name in LEFT_OUT:
            for control in dark.get_by_role("button", name=name).or_(dark.get_by_role("link", name=name, exact=True)).all():
                expect(control).to_be_hidden()
        expect(dark.get_by_role("navigation", name="Service")).to_be_hidden()
        ground, ink = dark.evaluate("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
        assert ground == "rgb(255, 255, 255)" and ink == "rgb(20, 34, 43)", address
        assert dark.evaluate("document.documentElement.scrollWidth") <= PAPER["width"], address
        dark.emulate_media(media="screen")
    dark.goto("/studies/printed")
    expect(dark.locator("html")).to_have_attribute("data-drawn", "yes")
    dark.emulate_media(media="print")
    for selector in (".arms-canvas svg", "#history canvas", "#curves canvas", "#trials tbody tr"):
        expect(dark.locator(selector).first).to_be_visible()
    expect(dark.locator("#pruning")).to_be_hidden()
    assert dark.pdf().startswith(b"%PDF-")
