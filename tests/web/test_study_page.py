"""The page of one study: its table, its charts, and what can be done from it."""

import posixpath
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from service import operations
from service.domain.budgets import parse_budget_change
from service.domain.records import Claim
from service.store import queries
from service.web.pages import HERE
from tests.web.laboratory import Laboratory
from tests.web.server import Served

pytestmark = pytest.mark.browser

PARSE = """async ([text, trial]) => {
  const { parse } = await import("/static/study/filter.js");
  const found = parse(text, { parameters: ["lr", "optimizer", "momentum"], metrics: ["accuracy", "lr"] }, "accuracy");
  return [found.matches(trial), found.unknown];
}"""
TRIAL = {
    "number": 7, "state": "failed", "value": None, "step": 4, "attempt": 1, "duplicate_of": None, "source": "sampler",
    "reason": "out_of_memory", "detail": "the batch did not fit", "worker": "box-1", "samples_per_second": None,
    "params": {"lr": 0.003, "optimizer": "sgd"}, "metrics": {"accuracy": 0.62, "lr": 0.001},
}  # fmt: skip

MATCHING = (
    "", "lr < 0.01", "lr<0.01", "lr = 0.003", "lr = 0.001..0.01", "metric.lr = 0.001", "optimizer = sgd", "optimizer = adam|sgd",
    "optimizer = SGD", "momentum != 0.9", "value > 60%", "state = failed", "memory", '"out of memory"', "worker = box-1", "lr < 0.01, sgd",
)  # fmt: skip
OTHERS = ("lr > 0.01", "lr = 1..2", "optimizer != sgd", "momentum < 1", "lr < 0.01 optimizer = adam", "(unbalanced")
UNKNOWN = ("rl < 0.01", "lr < much", "lr <")


def opened(page: Page, address: str) -> None:
    """The study's page with all of it drawn."""
    page.goto(address)
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")


def numbers(page: Page) -> list[str]:
    """The numbers of the rows in view, from the first one down."""
    return page.locator("#trials tbody th").all_inner_texts()


def finished(lab: Laboratory, name: str, values: list[float]) -> None:
    """A study whose first trials ended with these values."""
    lab.study(name, budget={"trials": len(values)})
    for claim, value in zip(lab.claims_from(name, len(values)), values, strict=True):
        lab.finish(claim, value)


def modules_of(path: str) -> set[str]:
    """The module of that path under static/ and all that it imports."""
    text = (HERE / "static" / path).read_text()
    imported = re.findall(r'^(?:import|export)[^;]*? from "([^"]+)"', text, re.MULTILINE)
    return {path}.union(*(modules_of(posixpath.normpath(posixpath.join(posixpath.dirname(path), one))) for one in imported))


def test_the_shell_asks_for_every_module_at_once() -> None:
    shell = (HERE / "pages" / "study.html").read_text()
    assert sorted(re.findall(r'(?:href|src)="/static/([^"]+\.js)"', shell)) == sorted(modules_of("study.js"))


def test_a_filter_means_what_it_says_or_says_what_it_does_not_understand(page: Page) -> None:
    page.goto("/login")
    assert [text for text in MATCHING if page.evaluate(PARSE, [text, TRIAL]) != [True, []]] == []
    assert [text for text in OTHERS if page.evaluate(PARSE, [text, TRIAL]) != [False, []]] == []
    assert [text for text in UNKNOWN if not page.evaluate(PARSE, [text, TRIAL])[1]] == []


def test_what_is_filtered_sorted_and_shown_is_in_the_address_and_comes_back_from_it(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "addressed", [0.5, 0.9, 0.7])
    opened(page, "/studies/addressed?filter=value+>+0.6&sort=value&columns=number,value")
    assert numbers(page) == ["2", "1"]
    expect(page.locator("#trials thead th")).to_have_count(3)
    page.get_by_role("button", name="accuracy").click()
    page.get_by_role("button", name="complete 3").click()
    page.get_by_role("searchbox", name="Filter").fill("value > 0.4")
    expect(page.locator("#found")).to_have_text("3 trials")
    page.locator("#columns summary").click()
    page.get_by_role("checkbox", name="lr", exact=True).check()
    expect(page).to_have_url(re.compile(r"columns=number,value,lr\b"))
    page.reload()
    expect(page.locator("#trials thead th")).to_have_count(4)
    assert numbers(page) == ["1", "2", "0"]
    expect(page.get_by_role("searchbox", name="Filter")).to_have_value("value > 0.4")
    expect(page.get_by_role("button", name="complete 3")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("searchbox", name="Filter").fill("vlaue > 0.4")
    expect(page.locator("#filter-fault")).to_contain_text("Not understood: vlaue > 0.4")


def test_the_table_is_walked_by_keys_and_its_trials_are_compared_and_opened(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "walked", [0.5, 0.9, 0.7])
    opened(page, "/studies/walked")
    table = page.get_by_role("grid")
    table.focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "Space"):
        table.press(key)
    expect(table).to_have_attribute("aria-activedescendant", "trial-0")
    compare = page.get_by_role("link", name="Compare 2 trials")
    expect(compare).to_have_attribute("href", "/compare?trial=walked%3A0&trial=walked%3A2")
    expect(page).to_have_url(re.compile(r"pick=2,0"))
    table.press("ArrowUp")
    table.press("Enter")
    expect(page).to_have_url(re.compile(r"/studies/walked/trials/1$"))


def test_of_many_trials_only_the_rows_in_view_are_in_the_document(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "long", [0.5] * 200)
    opened(page, "/studies/long")
    expect(page.locator("#trials")).to_have_attribute("aria-rowcount", "201")
    assert page.locator("#trials tbody tr").count() < 80
    page.locator(".rows").evaluate("view => view.scrollTo(0, view.scrollHeight)")
    row = page.locator("#trial-0")
    expect(row).to_be_visible()
    expect(row).to_have_attribute("aria-rowindex", "201")
    assert page.locator("#trials tbody tr").count() < 80


def test_why_a_trial_was_stopped_stands_in_its_row(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("explained")
    live_lab.fail(live_lab.claim_from("explained"))
    opened(page, "/studies/explained")
    expect(page.locator("#trial-0")).to_contain_text("ran out of memory: the batch did not fit")
    expect(page.locator("#figures")).to_contain_text("1 failed")


def test_reports_move_the_curves_without_a_request(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("curved")
    claim = live_lab.claim_from("curved")
    opened(page, "/studies/curved")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#figure-panel .words")).not_to_be_empty()  # the figure is fetched after the rest
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if "/api/" in request.url else None)
    live_lab.report(claim, 1, accuracy=0.25)
    expect(page.locator("#trial-0")).to_contain_text("25.00 %")
    assert requests == []
    curves = page.locator("#curves")
    curves.focus()
    curves.press("ArrowRight")
    expect(page.locator("#said")).to_contain_text("Trial 0, running, accuracy 25.00 %. lr ")
    expect(page.locator(".tip")).to_contain_text("optimizer")
    curves.press("Enter")
    expect(page).to_have_url(re.compile(r"/trials/0$"))


def test_the_charts_speak_of_each_trial(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "told", [0.5, 0.9])
    opened(page, "/studies/told")
    history = page.locator("#history")
    expect(history).to_have_attribute("aria-label", "accuracy of 2 complete trials; the best is 90.00 %, trial 1")
    history.focus()
    history.press("End")
    expect(page.locator("#said")).to_contain_text("Trial 1, complete, accuracy 90.00 %")
    page.get_by_role("combobox", name="Metric").select_option("loss")
    expect(page.locator("#curves")).to_have_attribute("aria-label", "loss by epoch of 2 trials; the best one, trial 1, ended at 0.1")
    expect(page).to_have_url(re.compile("metric=loss"))


def test_a_stretch_drawn_along_an_axis_filters_the_table(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "brushed", [0.5, 0.9, 0.7])
    opened(page, "/studies/brushed")
    chart = page.locator("#parallel")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box
    x = box["x"] + box["width"] - 66  # the last axis is the objective's
    page.mouse.move(x, box["y"] + 36)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    expect(page.get_by_role("searchbox", name="Filter")).to_have_value(re.compile(r"^value = 0\.\d+\.\.0\.9$"))
    expect(page.locator("#found")).to_have_text(re.compile(r"^[12] of 3 trials$"))
    page.mouse.click(x, box["y"] + 60)
    expect(page.locator("#found")).to_have_text("3 trials")


def test_a_trial_is_queued_from_a_form_that_another_one_fills(browser: Browser, live: Served, live_lab: Laboratory) -> None:
    live_lab.study("by-hand", budget={"trials": 20, "parallel": 1})
    claim = live_lab.claim_from("by-hand")
    live_lab.finish(claim, 0.9)
    with browser.new_page(base_url=live.address) as page:  # its console tells of the refused request
        page.goto("/studies/by-hand?queue=0")
        queue_one(page, claim)


def queue_one(page: Page, claim: Claim) -> None:
    """Through the dialog, at first with a value out of range."""
    dialog = page.get_by_role("dialog", name="Queue a trial")
    lr = dialog.get_by_label("lr")
    expect(lr).to_have_value(re.compile(r"^0\.\d+|e-"))
    assert float(lr.input_value()) == pytest.approx(float(str(claim.params["lr"])), rel=1e-9)
    assert dialog.get_by_label("optimizer").evaluate("list => list.selectedOptions[0].text") == claim.params["optimizer"]
    lr.fill("7")
    dialog.get_by_role("button", name="Queue it").click()
    expect(dialog.get_by_text("was given")).to_be_visible()
    expect(lr).to_be_focused()
    lr.fill("0.02")
    dialog.get_by_role("button", name="Queue it").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#trial-1")).to_contain_text("0.02")
    expect(page.locator("#trial-1")).to_contain_text("queued by hand")
    expect(page).not_to_have_url(re.compile("queue="))


def test_a_trial_queued_again_has_the_very_parameters_of_the_first(page: Page, live_lab: Laboratory) -> None:
    """The table has its parameters to ten digits only; what is queued are those of the trial."""
    study = live_lab.study("once-more", budget={"trials": 20, "parallel": 1})
    claim = live_lab.claim_from("once-more")
    assert len(repr(claim.params["lr"])) > 14
    live_lab.finish(claim, 0.9)
    page.goto("/studies/once-more?queue=0")
    dialog = page.get_by_role("dialog", name="Queue a trial")
    dialog.get_by_role("button", name="Queue it").click()
    expect(dialog).to_be_hidden()
    assert live_lab.store.read(queries.find_trial, study.id, 1).params == claim.params


def test_a_queued_trial_leaves_empty_fields_to_the_sampler(page: Page, live_lab: Laboratory) -> None:
    conditional = {
        "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    }
    study = live_lab.study("partly-given", search_space=conditional)
    opened(page, "/studies/partly-given")
    dialog = page.get_by_role("dialog", name="Queue a trial")
    send = dialog.get_by_role("button", name="Queue it")
    page.get_by_role("button", name="Queue a trial").click()
    expect(dialog).to_contain_text("The sampler chooses the values of empty fields")
    expect(dialog.get_by_label("momentum")).to_be_hidden()  # it takes part only with sgd
    dialog.get_by_label("optimizer").select_option("sgd")
    expect(dialog.get_by_label("momentum")).to_be_visible()
    dialog.get_by_label("lr").fill("0.02")
    send.click()
    expect(page.locator("#trial-0")).to_contain_text("queued by hand")
    assert live_lab.store.read(queries.find_trial, study.id, 0).params == {"lr": 0.02, "optimizer": "sgd"}
    page.get_by_role("button", name="Queue a trial").click()
    dialog.get_by_label("Start from trial").fill("0")
    dialog.get_by_label("Start from trial").press("Tab")
    expect(dialog.get_by_label("lr")).to_have_value("0.02")
    expect(dialog.get_by_label("momentum")).to_have_value("")  # trial 0 leaves it to the sampler
    dialog.get_by_label("lr").fill("")
    send.click()
    expect(page.locator("#trial-1")).to_contain_text("queued by hand")
    assert live_lab.store.read(queries.find_trial, study.id, 1).params == {"optimizer": "sgd"}
    claim = live_lab.claim_from("partly-given")
    assert claim.params.keys() >= {"lr", "optimizer", "momentum"} and claim.params["lr"] == 0.02


def test_a_complete_study_gets_more_trials_from_its_page_and_goes_on(browser: Browser, live: Served, live_lab: Laboratory) -> None:
    finished(live_lab, "extended", [0.5, 0.9])
    with browser.new_page(base_url=live.address) as page:  # its console reports the refused request
        opened(page, "/studies/extended")
        expect(page.locator("#live")).to_have_text("ended")
        page.get_by_role("button", name="More trials …").click()
        dialog = page.get_by_role("dialog", name="More trials")
        expect(dialog.get_by_label("Hours to add")).to_have_count(0)  # the budget has no bound on hours
        trials = dialog.get_by_label("Trials to add")
        expect(trials).to_have_accessible_description("the budget has 2 trials")
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_role("alert")).to_contain_text("name a field of the budget to change")
        trials.fill("half")
        dialog.get_by_role("button", name="Add").click()
        expect(trials).to_be_focused()
        expect(trials).to_have_attribute("aria-invalid", "true")
        expect(trials).to_have_accessible_description(re.compile("whole number|integer"))
        trials.fill("3")
        dialog.get_by_role("button", name="Add").click()
        expect(dialog).to_be_hidden()
        expect(page.locator("#state")).to_contain_text("active")
        expect(page.locator("#figures")).to_contain_text("2 / 5")
        expect(page.locator("#live")).to_have_text("live")
        live_lab.claim_from("extended")
        expect(page.locator("#trial-2")).to_contain_text("running")


@pytest.mark.parametrize("state", ["active", "paused", "stopped"])
def test_trials_and_hours_are_added_in_each_state(page: Page, live_lab: Laboratory, state: str) -> None:
    study = live_lab.study(f"more-{state}", budget={"trials": 4, "hours": 1.5})
    if state == "paused":
        operations.pause_study(live_lab.store, study.id)
    if state == "stopped":
        operations.stop_study(live_lab.store, study.id)
    opened(page, f"/studies/more-{state}")
    page.get_by_role("button", name="More trials …").click()
    dialog = page.get_by_role("dialog", name="More trials")
    if state != "active":
        expect(dialog).to_contain_text("no trial is started until it is resumed")
    dialog.get_by_label("Trials to add").fill("6")
    dialog.get_by_label("Hours to add").fill("0.5")
    dialog.get_by_label("Hours to add").press("Enter")
    expect(page.locator("#figures")).to_contain_text("0 / 10")
    expect(page.locator("#state")).to_contain_text(state)
    budget = live_lab.store.read(queries.find_study, study.id).spec.budget
    assert (budget.trials, budget.hours) == (10, 2.0)


def test_a_failed_and_a_stopped_study_are_resumed_by_the_button_of_their_page(page: Page, live_lab: Laboratory) -> None:
    stopped, failed = live_lab.study("stopped-here"), live_lab.study("failed-here")
    operations.stop_study(live_lab.store, stopped.id)
    operations.fail_study(live_lab.store, failed.id, "the data has changed")
    for name in ("stopped-here", "failed-here"):
        opened(page, f"/studies/{name}")
        page.evaluate("window.same = true")
        expect(page.locator("#state")).to_contain_text(name.split("-")[0])
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#state")).to_contain_text("active")
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#live")).to_have_text("live")
        assert page.evaluate("window.same") is True
    live_lab.claim_from("stopped-here")
    page.goto("/studies/stopped-here")
    expect(page.locator("#trial-0")).to_contain_text("running")


def test_a_page_left_open_on_an_ended_study_follows_it_when_it_goes_on_elsewhere(page: Page, live_lab: Laboratory) -> None:
    study = live_lab.study("left-open", budget={"trials": 1})
    opened(page, "/studies/left-open")
    expect(page.locator("#live")).to_have_text("live")
    live_lab.finish(live_lab.claim_from("left-open"), 0.5)
    expect(page.locator("#live")).to_have_text("ended")
    expect(page.locator("#state")).to_contain_text("complete")
    operations.extend_study(live_lab.store, study.id, parse_budget_change({"add": {"trials": 1}}))
    expect(page.locator("#live")).to_have_text("live", timeout=60_000)
    expect(page.locator("#state")).to_contain_text("active")
    live_lab.finish(live_lab.claim_from("left-open"), 0.75)
    expect(page.locator("#figures")).to_contain_text("2 / 2")
    expect(page.locator("#live")).to_have_text("ended")
    operations.extend_study(live_lab.store, study.id, parse_budget_change({"add": {"trials": 1}}))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as when the tab is looked at again
    expect(page.locator("#live")).to_have_text("live", timeout=60_000)


def test_a_page_left_open_on_an_ended_study_shows_the_best_by_another_metric(page: Page, live_lab: Laboratory) -> None:
    study = live_lab.study("ranked-anew", budget={"trials": 1})
    live_lab.finish(live_lab.claim_from("ranked-anew"), 0.75)
    opened(page, "/studies/ranked-anew")
    expect(page.locator("#figures")).to_contain_text("Best accuracy75.00 %")
    expect(page.locator("#live")).to_have_text("ended")
    operations.rerank_study(live_lab.store, study.id, "loss")
    expect(page.locator("#figures")).to_contain_text("Best loss0.25", timeout=60_000)


def test_a_study_is_deleted_only_after_a_question(page: Page, live_lab: Laboratory) -> None:
    finished(live_lab, "doomed", [0.5])
    opened(page, "/studies/doomed")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the study").click()
    expect(page).to_have_url(re.compile(r"/$"))


def test_a_page_that_may_only_read_offers_no_change(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("looked-at")
    opened(page, "/studies/looked-at")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.evaluate("document.documentElement.setAttribute('data-read-only', '')")
    for name in ("Pause", "Stop", "Delete", "Queue a trial", "More trials …"):
        expect(page.get_by_role("button", name=name)).to_be_hidden()
