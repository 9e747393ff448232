"""The list of studies in a real browser: found, live, and steered from its cards."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from service import operations
from service.domain.errors import StudyNotFound
from service.store import queries
from tests.web.laboratory import Laboratory

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(2)>"


def card(page: Page, name: str) -> Locator:
    return page.locator("#studies > li").filter(has=page.get_by_role("heading", name=name, exact=True))


def test_studies_are_found_by_name_and_state_and_the_address_keeps_both(page: Page, live_lab: Laboratory) -> None:
    for name in ("listed-one", "listed-two", HOSTILE):
        live_lab.study(name)
    operations.pause_study(live_lab.store, live_lab.id_of("listed-two"))
    page.goto("/")
    expect(card(page, HOSTILE)).to_be_visible()
    page.get_by_label("Search by name").fill("LISTED")
    expect(page.locator("#studies > li")).to_have_count(2)
    page.get_by_role("button", name="paused").click()
    expect(page.locator("#studies h2")).to_have_text(["listed-two"])
    expect(page).to_have_url(re.compile(r"\?q=LISTED&state=paused$"))
    page.reload()
    expect(page.locator("#studies h2")).to_have_text(["listed-two"])
    expect(page.get_by_role("button", name="paused")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Search by name").fill("nothing like it")
    page.get_by_role("button", name="Show all studies").click()
    expect(card(page, "listed-one")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_a_card_shows_where_the_study_stands_and_follows_it(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("card-followed", budget={"trials": 4})
    claims = live_lab.claims_from("card-followed", 50)
    page.goto("/?q=followed")
    expect(card(page, "card-followed")).to_contain_text("0 of 4 trials")
    page.evaluate("window.same = true")
    for claim, accuracy in zip(claims[:3], (0.5, 0.25, 0.75), strict=True):
        live_lab.finish(claim, accuracy)
    expect(card(page, "card-followed")).to_contain_text("3 of 4 trials")
    expect(card(page, "card-followed")).to_contain_text("75.00 %")
    label = "Best accuracy by trial: 50.00 % first, 75.00 % since trial 2, after 1 improvement"
    expect(card(page, "card-followed").get_by_role("img", name=label)).to_be_visible()
    assert page.evaluate("window.same") is True


def test_a_study_is_paused_and_deleted_from_its_card_and_only_when_that_was_meant(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("short-lived")
    page.goto("/?q=short-lived")
    actions = card(page, "short-lived").get_by_label("Actions for short-lived")
    actions.press("Enter")
    card(page, "short-lived").get_by_role("button", name="Pause").click()
    expect(card(page, "short-lived").locator(".pill")).to_contain_text("paused")
    for answer, left in (("Cancel", 1), ("Delete the study", 0)):
        actions.click()
        card(page, "short-lived").get_by_role("button", name="Delete").click()
        page.get_by_role("dialog", name="Delete short-lived?").get_by_role("button", name=answer).click()
        expect(card(page, "short-lived")).to_have_count(left)
    with pytest.raises(StudyNotFound):
        live_lab.store.read(queries.find_study, "short-lived")


def test_lists_and_form_fit_a_phone(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("on-a-phone-with-a-name-that-goes-on-and-on-without-a-single-space-in-it")
    page.set_viewport_size({"width": 360, "height": 740})
    for address, landmark in (("/", "#studies h2"), ("/workers", "#workers h2"), ("/new", "#form h2")):
        page.goto(address)
        expect(page.locator(landmark).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
