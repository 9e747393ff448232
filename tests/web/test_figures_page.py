"""The panel of figures in a real browser: drawn in its frame, chosen by keys, kept in the address, safe from users' text."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from service.domain.records import Claim
from tests.web.laboratory import Laboratory
from tests.web.server import Served

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
SPACE = {
    "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
}


def filled(lab: Laboratory, name: str, count: int = 8) -> list[Claim]:
    """A study with so many complete trials; the claims of two more, which run."""
    lab.study(name, search_space=SPACE, budget={"trials": count + 2})
    claims = lab.claims_from(name, 50)
    for place, claim in enumerate(claims[:count]):
        lab.finish(claim, 0.5 + place / 20)
    return claims[count:]


def figure(page: Page, name: str) -> None:
    """Wait until that figure is drawn."""
    page.locator("#analysis").scroll_into_view_if_needed()
    expect(page.locator(f'#analysis iframe[data-drawn="{name}"]')).to_be_visible(timeout=120_000)


def test_figures_are_chosen_by_keys_and_by_the_address(page: Page, live_lab: Laboratory) -> None:
    filled(live_lab, "figured")
    page.goto("/studies/figured?figure=contour&param=optimizer&param=lr")
    figure(page, "contour")
    panel, plot = page.locator("#analysis"), page.frame_locator("#analysis iframe")
    expect(panel.get_by_label("Across")).to_have_value("optimizer")
    expect(plot.get_by_text("sgd", exact=True)).to_be_visible()
    panel.get_by_label("Up").select_option("dropout")
    expect(page).to_have_url(re.compile(r"figure=contour&param=optimizer&param=dropout$"))
    expect(panel.locator(".words")).to_contain_text("by optimizer and dropout")
    panel.get_by_role("tab", name="Contour").press("Home")
    figure(page, "param_importances")
    expect(panel.get_by_role("tab", name="Importance")).to_be_focused()
    expect(page).to_have_url(re.compile(r"figure=param_importances$"))
    panel.get_by_text("As a table").click()
    expect(panel.get_by_role("rowheader")).to_have_count(3)


def test_figures_follow_the_trials_and_are_fetched_when_they_are_near(page: Page, live_lab: Laboratory) -> None:
    running = filled(live_lab, "figures-followed", count=3)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if re.search(r"/api/.*/figures/|/figure$|plotly", request.url) else None)
    page.set_viewport_size({"width": 390, "height": 500})
    page.goto("/studies/figures-followed?figure=edf")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#analysis .tabs")).to_be_attached()
    assert asked == []
    figure(page, "edf")
    words = page.locator("#analysis .words")
    expect(words).to_contain_text("Of 3 complete trials")
    live_lab.finish(running[0], 0.9)
    expect(words).to_contain_text("Of 4 complete trials", timeout=120_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert len([url for url in asked if "figures/edf" in url]) <= 3


def test_a_fault_is_told_in_the_servers_words(browser: Browser, live: Served, live_lab: Laboratory) -> None:
    filled(live_lab, HOSTILE + "figures")
    with browser.new_page(base_url=live.address) as page:
        reported = {"type": "urn:thawline:problem:busy", "title": "Busy", "status": 503, "detail": f"Not now {HOSTILE}."}
        page.route("**/figures/slice*", lambda route: route.fulfill(status=503, json=reported), times=1)
        page.goto(f"/studies/{live_lab.id_of(HOSTILE + 'figures')}?figure=slice&param=%3Cb%3E")
        page.locator("#analysis").scroll_into_view_if_needed()
        expect(page.locator("#analysis .notice")).to_have_text(f"Not now {HOSTILE}.")
        page.get_by_role("combobox", name="Parameter").select_option("optimizer")
        figure(page, "slice")
        expect(page.locator("#analysis .notice")).to_be_hidden()
        assert page.locator("img[src=x]").count() == 0


def test_a_figure_is_saved_as_an_image(page: Page, live_lab: Laboratory) -> None:
    filled(live_lab, "saved-as-image", count=3)
    page.goto("/studies/saved-as-image?figure=rank")
    figure(page, "rank")
    with page.expect_download() as saving:
        page.frame_locator("#analysis iframe").locator('[data-title^="Download"]').click()
    assert saving.value.suggested_filename.endswith(".png")
    assert saving.value.path().read_bytes().startswith(b"\x89PNG")
