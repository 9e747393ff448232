"""The pages in a real browser: live, safe, and on their own."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from service.domain.states import EventKind
from service.settings import Settings
from service.web.pages import HERE
from tests.web.laboratory import TOKEN, Laboratory
from tests.web.server import running
from trainer.protocol import Pace, Reuse

pytestmark = pytest.mark.browser

COUNT_DRAWINGS = """() => {
  window.drawings = 0;
  new MutationObserver(() => { window.drawings += 1; }).observe(document.getElementById("history"), { attributeFilter: ["aria-label"] });
}"""
HOSTILE = "<img src=x onerror=alert(1)>"


def test_trials_appear_and_change_without_reloading(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("seen-live")
    page.goto("/studies/seen-live")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#trials tbody")).to_contain_text("No trial yet")
    page.evaluate("window.same = true")
    claim = live_lab.claim_from("seen-live")
    row = page.locator("#trials tbody tr").filter(has=page.get_by_role("rowheader", name="0", exact=True))
    expect(row).to_contain_text("running")
    live_lab.report(claim, 1, accuracy=0.25)
    expect(row).to_contain_text("25.00 %")
    live_lab.finish(claim, 0.875)
    expect(row).to_contain_text("complete")
    expect(page.locator("#figures")).to_contain_text("87.50 %")
    expect(page.get_by_role("link", name="YAML")).to_have_attribute("href", re.compile(r"/best\?format=yaml$"))
    expect(page.locator("#history")).to_have_attribute("aria-label", "accuracy of 1 complete trial; the best is 87.50 %, trial 0")
    assert page.evaluate("window.same") is True


def test_a_running_trial_shows_its_speed_and_what_it_was_spared(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("paced", budget={"trials": 1})
    claim = live_lab.claim_from("paced")
    page.goto("/studies/paced?columns=number,speed,spared")
    expect(page.locator("#live")).to_have_text("live")
    seconds = {"forward": 6.0, "backward": 3.0, "data": 1.0}
    pace = Pace(samples_per_second=1234.0, seconds_left=75.0, memory=2_500_000_000, seconds=seconds, saved_seconds=120.0)
    live_lab.tell(claim, 1, pace, Reuse(pixels="cached", depth=9, place="disk", lanes=4))
    row = page.locator("#trials tbody tr").first
    expect(row).to_contain_text("1,234")
    expect(page.locator("#figures")).to_contain_text("30 s by stored outputs")
    expect(row).to_contain_text("30 s")
    live_lab.finish(claim, 0.9)
    expect(page.locator("#state")).to_contain_text("complete")


def test_three_hundred_trials_that_end_at_once_are_one_change(page: Page, live_lab: Laboratory) -> None:
    claims = live_lab.shared_pass("flood", 300)
    page.goto("/studies/flood")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#figures")).to_contain_text("300")
    page.evaluate(COUNT_DRAWINGS)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if "/table" in request.url else None)
    live_lab.finish_all(claims, 0.75)
    expect(page.locator("#live")).to_have_text("ended")
    expect(page.locator("#figures")).to_contain_text("300 / 300")
    expect(page.locator("#history")).to_have_attribute("aria-label", re.compile("^accuracy of 300 complete trials"))
    expect(page.locator("#trials")).to_have_attribute("aria-rowcount", "301")
    expect(page.locator("#trials tbody")).not_to_contain_text("running")
    assert len(requests) <= 4, requests  # events come in a few batches; each is one read
    assert page.evaluate("drawings") <= 6


def test_a_study_is_paused_and_resumed_by_its_buttons(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("steered")
    page.goto("/studies/steered")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#state")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_contain_text("active")


def test_hostile_names_are_shown_as_text(page: Page, live_lab: Laboratory) -> None:
    live_lab.study(HOSTILE)
    page.goto("/")
    page.get_by_role("heading", name=HOSTILE, exact=True).click()
    expect(page).to_have_url(re.compile(re.escape(quote(HOSTILE, safe="()"))))
    expect(page.locator("#name")).to_have_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_the_pages_fit_a_phone(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("on-the-phone")
    live_lab.finish(live_lab.claim_from("on-the-phone"), 0.9)
    page.set_viewport_size({"width": 360, "height": 740})
    for address in ("/", "/studies/on-the-phone", "/login"):
        page.goto(address)
        page.wait_for_load_state("domcontentloaded")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
    page.goto("/studies/on-the-phone")
    expect(page.locator("#trials tbody")).to_contain_text("90.00 %")


def test_a_browser_logs_in_where_a_token_is_asked_for(browser: Browser, settings: Settings, lab: Laboratory) -> None:
    lab.study("behind-the-door")
    with running(settings.home, THAW_TOKEN=TOKEN) as server, browser.new_page(base_url=server.address) as page:
        page.goto("/studies/behind-the-door")
        page.get_by_label("Token").fill("not the token at all")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("This is not the server's token.")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_label("Token").press("Enter")
        expect(page.locator("#name")).to_have_text("behind-the-door")
        expect(page.locator("#live")).to_have_text("live")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#state")).to_contain_text("paused")


def test_the_stream_listens_to_every_kind_of_event() -> None:
    listed = re.search(r"KINDS = \[(.*?)\]", (HERE / "static" / "live.js").read_text(), re.DOTALL)
    assert listed
    assert set(re.findall(r'"(\w+)"', listed.group(1))) == set(EventKind)
