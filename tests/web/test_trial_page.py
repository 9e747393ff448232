"""The page of one trial: live, with its log, and steered by its buttons."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from service import operations
from service.domain.records import Claim, MetricReport
from service.operations import Released, Write
from tests.web.laboratory import Laboratory
from trainer.protocol import Checkpoint, Finished, Pace, Reuse

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
PACE = Pace(samples_per_second=1234.0, seconds_left=75.0, memory=2_500_000_000, utilization=0.87, seconds={"forward": 3.0, "backward": 1.0})
BASELINE = {"lr": 0.01, "optimizer": "sgd"}


def write(lab: Laboratory, claim: Claim, **reported: Any) -> None:
    assert operations.record(lab.store, [Write(claim.lease, **reported)]) == []


def finished(matrix: Sequence[Sequence[int]], names: Sequence[str], **metrics: float) -> Finished:
    """A run's end with this confusion matrix of these classes."""
    recall = {name: row[index] / sum(row) for index, (name, row) in enumerate(zip(names, matrix, strict=True))}
    whole = tuple(tuple(row) for row in matrix)
    return Finished(
        step=1, metrics=metrics, report={"per_class_recall": recall, "confusion_matrix": whole}, train_seconds=1.0, peak_memory=1
    )


def row_of(table: Locator, name: str) -> Locator:
    return table.get_by_role("row").filter(has=table.page.get_by_role("rowheader", name=name, exact=True))


def test_a_trial_is_followed_to_its_end_without_reloading(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("one-trial", budget={"trials": 2})
    claim, other = live_lab.claims_from("one-trial", 50)
    page.goto("/studies/one-trial/trials/0")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#state")).to_contain_text("running")
    page.get_by_text("As a table").evaluate("node => node.parentElement.open = true")
    live_lab.tell(claim, 1, PACE, Reuse(pixels="cached", depth=9, place="disk", lanes=4))
    expect(page.locator("#pace")).to_contain_text("output of 9 stages read, stored on disk")
    expect(page.locator("#pace")).to_contain_text("87 % of its cores in use")
    expect(page.locator("#figures")).to_contain_text("87 % of its cores in use")
    live_lab.report(claim, 2, accuracy=0.625, loss=math.inf)
    expect(page.locator("#figures")).to_contain_text("2 / 3")
    expect(row_of(page.locator(".steps"), "2")).to_contain_text("62.50 %")
    expect(row_of(page.locator(".steps"), "2")).to_contain_text("not finite")
    live_lab.finish(other, 0.5)
    write(live_lab, claim, log="its first line\n")
    expect(page.locator("pre.log")).to_have_text("its first line\n")
    live_lab.finish(claim, 0.875)
    expect(page.locator("#state")).to_contain_text("complete")
    expect(page.locator("#figures")).to_contain_text("★ the best so far")
    expect(page.locator("#why")).to_contain_text("It completed all its 3 epochs")
    expect(row_of(page.locator(".confusion"), "dog").get_by_role("cell")).to_have_text(["5", "5"])
    expect(row_of(page.locator(".recall"), "dog")).to_contain_text("50 %")
    expect(row_of(page.locator("table.attempts"), "1")).to_contain_text("ran to its end")


def test_shares_of_which_fewer_are_better_have_their_own_chart(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("calibrated")
    live_lab.report(live_lab.claim_from("calibrated"), 1, accuracy=0.9, f1=0.8, ece=0.01)
    page.goto("/studies/calibrated/trials/0")
    expect(page.locator(".chart-group h3")).to_have_text(["Shares of the validation images", "ece (share)"])
    expect(page.locator(".chart-group", has_text="ece").locator(".lines-legend")).not_to_contain_text("accuracy")


def test_the_memory_of_a_gpu_is_given_with_what_the_run_needs_of_it(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("on-a-gpu")
    claim = live_lab.claim_from("on-a-gpu")
    live_lab.report(claim, 1, accuracy=0.5)
    done = finished([[1, 1], [1, 1]], ["cat", "dog"], accuracy=0.5)
    write(live_lab, claim, outcome=done.model_copy(update={"peak_memory": 3_000_000_000, "device_memory": 4_400_000_000}))
    page.goto("/studies/on-a-gpu/trials/0")
    expect(page.locator("#figures")).to_contain_text("3 GB")
    expect(page.locator("#figures")).to_contain_text("about 4.4 GB of the GPU needed")


def test_reports_are_drawn_without_a_request(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("quiet-trial")
    claim = live_lab.claim_from("quiet-trial")
    live_lab.report(claim, 1, accuracy=0.25)
    page.goto("/studies/quiet-trial/trials/0")
    expect(page.locator("#live")).to_have_text("live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    live_lab.report(claim, 2, accuracy=0.5)
    live_lab.report(claim, 3, accuracy=0.75)
    expect(page.locator("#figures")).to_contain_text("75.00 %")
    expect(page.get_by_role("img", name=re.compile("accuracy: 25.00 % at epoch 1, 75.00 % at epoch 3"))).to_be_visible()
    assert asked == []


def test_the_log_follows_its_end_unless_someone_reads_above_it(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("talkative")
    claim = live_lab.claim_from("talkative")
    write(live_lab, claim, log="".join(f"line {number}\n" for number in range(200)))
    page.goto("/studies/talkative/trials/0")
    log = page.locator("pre.log")
    expect(log).to_contain_text("line 199")
    left = "node => node.scrollHeight - node.scrollTop - node.clientHeight"
    assert log.evaluate(left) < 2
    write(live_lab, claim, log="line 200\n")
    expect(log).to_contain_text("line 200")
    assert log.evaluate(left) < 2
    log.evaluate("node => { node.scrollTop = 0; }")
    expect(page.get_by_role("button", name="Jump to the end")).to_be_visible()
    write(live_lab, claim, log="line 201\n")
    expect(log).to_contain_text("line 201")
    assert log.evaluate("node => node.scrollTop") == 0
    page.get_by_role("button", name="Jump to the end").click()
    assert log.evaluate(left) < 2


def test_a_long_log_begins_at_its_end_and_has_what_was_before(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("long-log")
    claim = live_lab.claim_from("long-log")
    parts = [Write(claim.lease, log=f"line {number}\n") for number in range(1800)]
    assert operations.record(live_lab.store, parts) == []
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/log" in request.url else None)
    page.goto("/studies/long-log/trials/0")
    log = page.locator("pre.log")
    expect(log).to_contain_text("line 1799")
    expect(log).not_to_contain_text("line 1299\n")
    assert len(asked) < 25
    earlier = page.get_by_role("button", name="Show earlier lines")
    for _ in range(3):
        before = len(asked)
        earlier.click()
        page.wait_for_function(
            "([count]) => performance.getEntriesByType('resource').filter(e => e.name.includes('/log')).length > count", arg=[before]
        )
    expect(earlier).to_be_hidden()
    assert log.inner_text().split("\n")[:-1] == [f"line {number}" for number in range(1800)]


def test_an_attempt_is_chosen_and_a_new_one_is_shown_by_itself(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("tried-twice", budget={"trials": 1})
    first = live_lab.claim_from("tried-twice")
    checkpoint = Checkpoint(step=1, path="/somewhere", sha256="ab" * 32, size=45_000_000)
    write(live_lab, first, reports=[MetricReport(1, {"accuracy": 0.5})], log="the first attempt\n", checkpoint=checkpoint)
    page.goto("/studies/tried-twice/trials/0")
    expect(page.locator("pre.log")).to_have_text("the first attempt\n")
    expect(page.locator("#checkpoints")).to_contain_text("45 MB")
    write(live_lab, first, outcome=Released())
    second = live_lab.claim_from("tried-twice")
    write(live_lab, second, log="the second attempt\n")
    expect(page.locator("pre.log")).to_have_text("the second attempt\n")
    expect(row_of(page.locator("table.attempts"), "1")).to_contain_text("released by its worker")
    page.locator("#log").get_by_role("combobox").select_option("1")
    expect(page.locator("pre.log")).to_have_text("the first attempt\n")


def test_a_trial_is_cancelled_by_its_button(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("to-be-cancelled")
    live_lab.claim_from("to-be-cancelled")
    page.goto("/studies/to-be-cancelled/trials/0")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the trial").click()
    expect(page.locator("#state")).to_contain_text("cancelled")
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.get_by_role("link", name="Queue again")).to_have_attribute("href", "/studies/to-be-cancelled?queue=0")


def test_parameters_stand_beside_those_of_the_best_and_the_baseline(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("beside", baseline=BASELINE)
    baseline, best, third = live_lab.claims_from("beside", 3)
    live_lab.finish(baseline, 0.5)
    live_lab.finish(best, 0.75)
    live_lab.finish(third, 0.625)
    page.goto("/studies/beside/trials/2")
    expect(page.locator("#parameters thead")).to_contain_text("Best (trial 1)")
    expect(row_of(page.locator("#parameters"), "lr").get_by_label("differs:")).to_have_count(2)
    expect(page.locator("#figures")).to_contain_text("12.50 points below the best")
    expect(page.locator("#figures")).to_contain_text("12.50 points above the baseline")
    expect(page.get_by_role("link", name="Compare with the best")).to_have_attribute("href", "/compare?trial=beside%3A2&trial=beside%3A1")
    page.get_by_role("link", name="Previous").click()
    expect(page.locator("h1")).to_have_text("Trial 1")


def test_hostile_words_are_text_and_the_page_fits_a_phone(page: Page, live_lab: Laboratory) -> None:
    live_lab.study(HOSTILE * 2)
    claim = live_lab.claim_from(HOSTILE * 2)
    metrics = {"accuracy": 0.5, HOSTILE: 1.0}
    done = finished(((9, 0), (3, 1)), (HOSTILE, "dog"), **metrics)
    write(live_lab, claim, reports=[MetricReport(1, metrics)], log=f"{HOSTILE}\n", outcome=done, result={"environment": {HOSTILE: HOSTILE}})
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/studies/{live_lab.id_of(HOSTILE * 2)}/trials/0")
    expect(page.locator("#study")).to_have_text(HOSTILE * 2)
    expect(page.locator("pre.log")).to_have_text(f"{HOSTILE}\n")
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_of_many_classes_the_most_confused_pairs_are_shown(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("many-classes")
    claim = live_lab.claim_from("many-classes")
    size = 120
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    matrix[7][50], matrix[7][7] = 6, 4
    done = finished(matrix, [f"class {index}" for index in range(size)], accuracy=0.9)
    write(live_lab, claim, reports=[MetricReport(1, {"accuracy": 0.9})], outcome=done)
    page.goto("/studies/many-classes/trials/0")
    expect(page.locator("#confusion tbody tr")).to_have_text(["class 7class 50660 %"])
    expect(page.locator("#recall tbody tr").first).to_contain_text("class 7")
    expect(page.locator("#recall tbody tr")).to_have_count(25)
    page.get_by_role("button", name="Show all 120 classes").click()
    expect(page.locator("#recall tbody tr")).to_have_count(120)


def test_axes_have_round_marks_and_shares_stay_between_none_and_all(page: Page) -> None:
    page.goto("/login")
    axis = """async ([values, share]) => {
      const [{ measureOf }, { valueAxis }] = await Promise.all([import("/static/measures.js"), import("/static/axis.js")]);
      const metrics = { it: share ? { unit: "share", low: 0, high: 1 } : {} };
      const { place, marks, log } = valueAxis(values, measureOf({ metrics }, "it"), 100, 0);
      return { marks, log, places: values.map(place) };
    }"""
    shares = page.evaluate(axis, [[0.2, 1.0], True])
    assert shares["marks"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and shares["places"][1] == 0
    constant = page.evaluate(axis, [[0.5, 0.5], False])
    assert constant["places"] == [50, 50] and len(constant["marks"]) > 1
    rates = page.evaluate(axis, [[1e-6, 0.1], False])
    assert rates["log"] and rates["marks"] == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert page.evaluate(axis, [[], False])["marks"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    signed = page.evaluate(axis, [[-3, 1e4], False])
    assert not signed["log"] and 0 in signed["marks"]
