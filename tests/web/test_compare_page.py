"""Trials side by side."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from service import operations
from service.domain.records import Claim, MetricReport
from service.operations import Write
from tests.web.laboratory import FACTS, Laboratory
from tests.web.server import Served
from trainer.protocol import Finished, Pace

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(4)>"
RIGHT = ((10, 0), (5, 5))


def finish(lab: Laboratory, claim: Claim, accuracy: float, matrix: tuple[tuple[int, ...], ...] = RIGHT, **metrics: float) -> None:
    reported = {"accuracy": accuracy, "loss": 1 - accuracy, **metrics}
    recall: Mapping[str, float] = {name: row[index] / 10 for index, (name, row) in enumerate(zip(FACTS.classes, matrix, strict=True))}
    done = Finished(
        step=2,
        metrics=reported,
        report={"per_class_recall": recall, "confusion_matrix": matrix},
        train_seconds=42.0,
        peak_memory=3_000_000_000,
    )
    reports = [MetricReport(1, {"accuracy": 0.1}), MetricReport(2, reported)]
    assert operations.record(lab.store, [Write(claim.lease, reports=reports, outcome=done)]) == []


def pair(lab: Laboratory, name: str, **changes: Any) -> tuple[Claim, Claim]:
    lab.study(name, budget={"trials": 2}, **changes)
    first, second = lab.claims_from(name, 50)
    return first, second


def row_of(table: Locator, name: str) -> Locator:
    return table.get_by_role("row").filter(has=table.page.get_by_role("rowheader", name=name))


def chosen(page: Page) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get("trial", [])


def test_what_differs_comes_first_and_the_best_is_named(page: Page, live_lab: Laboratory) -> None:
    first, second = pair(live_lab, "pair")
    live_lab.tell(second, 1, Pace(samples_per_second=1.0, seconds_left=1.0, memory=1, utilization=0.43, seconds={}))
    finish(live_lab, first, 0.75, ((10, 0), (5, 5)))
    finish(live_lab, second, 0.875, ((9, 1), (0, 10)))
    page.goto("/compare?trial=pair:0&trial=pair:1")
    expect(row_of(page.locator("#differing"), "lr").get_by_label("differs:")).to_be_visible()
    expect(page.locator("#differing")).not_to_contain_text("image_size")
    expect(page.locator("#equal")).to_be_hidden()
    page.get_by_text("equal in all").click()
    expect(row_of(page.locator("#equal"), "image_size").get_by_role("cell")).to_have_text(["64", "64"])
    accuracy = row_of(page.locator("#results"), "accuracy").get_by_role("cell")
    expect(accuracy).to_have_text(["75.00 %", "★ 87.50 %"])
    expect(row_of(page.locator("#results"), "loss").get_by_role("cell")).to_have_text(["0.25", "★ 0.125"])
    expect(row_of(page.locator("#recall"), "cat").get_by_role("cell")).to_have_text(["★ 100 %", "90 %"])
    expect(row_of(page.locator("#recall"), "dog").get_by_role("cell")).to_have_text(["50 %", "★ 100 %"])
    expect(page.locator(".matrix")).to_have_count(2)
    expect(row_of(page.locator("#cost"), "Device utilization").get_by_role("cell")).to_have_text(["\u2013", "43 %"])
    expect(row_of(page.locator("#cost"), "Peak memory").get_by_role("cell")).to_have_text(["3 GB", "3 GB"])
    expect(page.get_by_role("img", name=re.compile("accuracy by epoch.*trial 0: 10.00 % at epoch 1, 75.00 % at epoch 2"))).to_be_visible()
    expect(page.locator(".lines .letter")).to_have_text(["A", "B"])


def test_the_address_holds_trials_and_metric(page: Page, live_lab: Laboratory) -> None:
    first, second = pair(live_lab, "addressed-pair")
    finish(live_lab, first, 0.75)
    finish(live_lab, second, 0.875)
    page.goto("/compare?trial=addressed-pair:0")
    page.locator("#metric").select_option("loss")
    page.locator("#add-number").fill("1")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".contender")).to_have_count(2)
    assert chosen(page) == ["addressed-pair:0", "addressed-pair:1"]
    page.reload()
    expect(page.locator(".contender")).to_have_count(2)
    expect(page.locator("#metric")).to_have_value("loss")
    page.get_by_role("button", name="Remove addressed-pair:0").click()
    expect(page.locator(".contender")).to_have_count(1)
    assert chosen(page) == ["addressed-pair:1"]
    page.go_back()
    expect(page.locator(".contender")).to_have_count(2)


def test_trials_that_are_not_there_are_named_and_the_rest_is_shown(browser: Browser, live: Served, live_lab: Laboratory) -> None:
    study = live_lab.study("known", budget={"trials": 1})
    live_lab.finish(live_lab.claim_from("known"), 0.75)
    with browser.new_page(base_url=live.address) as page:  # its console tells of answers with 404
        page.goto(f"/compare?trial=known:0&trial=known:7&trial=no:such:study:1&trial=known&trial={study.id}:0")
        expect(page.locator("#missing li")).to_have_count(3)
        expect(page.locator("#missing")).to_contain_text("known:7: The study has no trial 7")
        expect(page.locator("#missing")).to_contain_text('no:such:study:1: There is no study "no:such:study"')
        expect(page.locator(".contender")).to_have_count(2)
        page.locator("#missing li").first.get_by_role("button").click()
        expect(page.locator("#missing li")).to_have_count(2)


def test_running_trials_of_one_study_are_followed_by_its_events(page: Page, live_lab: Laboratory) -> None:
    first, second = pair(live_lab, "followed-pair")
    live_lab.report(first, 1, accuracy=0.25)
    page.goto("/compare?trial=followed-pair:0&trial=followed-pair:1")
    expect(page.locator("#live")).to_have_text("live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    live_lab.report(second, 1, accuracy=0.5)
    expect(page.locator("#results")).to_contain_text("50.00 %")
    assert asked == []
    finish(live_lab, first, 0.75)
    finish(live_lab, second, 0.875)
    expect(page.locator(".matrix table")).to_have_count(2)
    expect(page.locator("#live")).to_have_text("ended")


def test_running_trials_of_several_studies_are_read_again(page: Page, live_lab: Laboratory) -> None:
    first, _ = pair(live_lab, "here", fixed={"epochs": 3, "image_size": 64})
    other, _ = pair(live_lab, HOSTILE, fixed={"epochs": 3, "image_size": 128})
    finish(live_lab, other, 0.5)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/compare?trial=here:0&trial={live_lab.id_of(HOSTILE)}:0")
    expect(row_of(page.locator("#differing"), "image_size").get_by_role("cell")).to_have_text(["64", "128"])
    finish(live_lab, first, 0.75)
    expect(row_of(page.locator("#results"), "accuracy").get_by_role("cell")).to_have_text(["★ 75.00 %", "50.00 %"])
    expect(page.locator("#live")).to_have_text("ended")
    expect(page.locator(".contender-study").last).to_have_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
