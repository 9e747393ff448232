"""The page of a study's best configuration."""

import httpx2
import pytest
from playwright.sync_api import Page, expect

from service import operations
from service.domain.export import read_export
from tests.export.conftest import MANIFEST, NOTHING
from tests.web.laboratory import Laboratory
from tests.web.server import Served
from trainer.configuration import LoadedWeights

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(5)>"
BASELINE = {"lr": 0.01, "optimizer": "sgd"}


def test_a_result_appears_by_itself_and_says_what_it_is_worth(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("to-be-best", budget={"trials": 2}, baseline=BASELINE)
    baseline, other = live_lab.claims_from("to-be-best", 50)
    page.goto("/studies/to-be-best/best")
    expect(page.locator("#empty")).to_contain_text("No result yet")
    expect(page.get_by_role("link", name="Download YAML")).to_be_hidden()
    expect(page.locator("#live")).to_have_text("live")
    live_lab.finish(baseline, 0.5)
    expect(page.locator("#figures")).to_contain_text("50.00 %")
    expect(page.locator("#figures")).to_contain_text("the baseline itself is the best so far")
    live_lab.finish(other, 0.75)
    expect(page.locator("#figures")).to_contain_text("75.00 %")
    expect(page.locator("#figures")).to_contain_text("25.00 points")
    expect(page.locator("#figures")).to_contain_text("above the baseline's 50.00 %")
    expect(page.locator("#doubts")).to_contain_text("Measured once, on 20 validation images")
    expect(page.locator("#standing")).to_contain_text("Not confirmed. The best of 2 trials looks better than it is.")
    expect(page.locator("#standing").get_by_role("link")).to_have_attribute("href", "/new?from=to-be-best")
    expect(page.locator("#doubts")).to_contain_text("one standard error of the accuracy is 9.68 points")
    expect(page.get_by_role("link", name="Trial 1")).to_have_attribute("href", "/studies/to-be-best/trials/1")


def test_the_file_is_shown_copied_and_downloaded_as_the_server_gives_it(page: Page, live: Served, live_lab: Laboratory) -> None:
    study = live_lab.study(HOSTILE)
    live_lab.finish(live_lab.claim_from(HOSTILE), 0.75)
    given = {name: httpx2.get(f"{live.address}/api/v1/studies/{study.id}/best", params={"format": name}).text for name in ("yaml", "json")}
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/studies/{study.id}/best")
    expect(page.locator("#file")).to_have_text(given["yaml"], use_inner_text=False)
    expect(page.locator("#title")).to_have_text(f"Best configuration of {HOSTILE}")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == given["yaml"]
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download YAML").click()
    name = downloading.value.suggested_filename
    assert downloading.value.path().read_text() == given["yaml"]
    assert read_export(given["yaml"]).origin.study_name == HOSTILE
    expect(page.locator("#command-train")).to_have_text(f"thaw train {name} --out model")
    page.get_by_role("button", name="Copy the script command").click()
    script = name.replace("-best.yaml", "-train.py")
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"python {script}"
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
    page.get_by_role("tab", name="YAML").press("ArrowRight")
    expect(page.locator("#file")).to_have_text(given["json"])
    assert page.url.endswith("?format=json")
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("plain", [True, False])
def test_torchrun_is_offered_only_for_scripts_without_thawline(page: Page, live_lab: Laboratory, plain: bool) -> None:
    name = f"torchrun plain {plain}"
    study = live_lab.study(name, checked=False)
    published = LoadedWeights(format="torch", name="SqueezeNet1_1_Weights.IMAGENET1K_V1")
    facts = NOTHING.model_copy(update={"weights": published, "weights_sha256": "0" * 64})
    operations.pass_check(live_lab.store, study.id, facts, MANIFEST if plain else None)
    live_lab.finish(live_lab.claim_from(name), 0.75)
    page.goto(f"/studies/{study.id}/best")
    words = page.locator(".command-row", has=page.locator("#command-script")).locator("p")
    expect(words).to_have_text(
        "Trains from one file, which requires only torch and torchvision."
        if plain
        else "Trains from one file, which uses Thawline; its first lines state the reason."
    )
    expect(page.locator("#command-torchrun")).to_have_count(1 if plain else 0)
