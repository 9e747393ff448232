"""The confirmation on the pages: what will happen, runs as they come, and what was found."""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from service import operations
from service.domain.budgets import parse_budget_change
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport
from service.store import queries
from tests.narrowed import training
from tests.operations.driving import TEST_IMAGES, scored
from tests.web.laboratory import ENVIRONMENT, FACTS, Laboratory, study_document
from tests.web.server import Served
from trainer.configuration import LeftOut, ListingFacts
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images.config import ImageExamples, NearDuplicates

pytestmark = pytest.mark.browser

SEARCHED = {0: 0.7, 1: 0.9, 2: 0.8}  # by number; 0 is the baseline


def facts(**changes: Any) -> ImageClassificationInfo:
    return FACTS.model_copy(update={"images": {"train": 600, "validation": 200, "test": TEST_IMAGES}, **changes})


def confirming(lab: Laboratory, name: str, seeds: int = 3, found: ImageClassificationInfo | None = None, **changes: Any) -> None:
    """A study of three trials whose best two are confirmed, and the baseline with them."""
    reported = {"confirm": {"top": 2, "seeds": seeds}, "budget": {"trials": 3}, "baseline": {"lr": 0.01, "optimizer": "sgd"}}
    document = study_document(name, **(reported | changes))
    document["data"] = {**document["data"], "test": 0.2}
    study = operations.create_study(lab.store, parse_study(document))
    operations.pass_check(lab.store, study.id, found or facts())


def search(lab: Laboratory, name: str, values: Mapping[int, float]) -> None:
    for number, claim in zip(values, lab.claims_from(name, 50), strict=True):
        assert claim.lease.number == number
        lab.finish(claim, values[number])


def runs_of(lab: Laboratory, name: str) -> Sequence[Claim]:
    """The runs of the confirmation that can be claimed now; the first asking begins it."""
    return lab.claims_from(name, 50) or lab.claims_from(name, 50)


def finish(lab: Laboratory, claim: Claim, tests: Mapping[int, float]) -> None:
    """The end of a run: its configuration's share of the test images, and a little more in later rounds."""
    trial = lab.store.read(queries.find_trial, claim.lease.study, claim.lease.number)
    assert trial.confirms is not None and trial.round is not None
    outcome = scored(tests[trial.confirms] + 0.02, tests[trial.confirms] + 0.01 * (trial.round - 1))
    metrics = {"accuracy": outcome.metrics["accuracy"], "loss": 0.5}
    result = {**ENVIRONMENT, "trainable": 1000 - trial.confirms}
    write = operations.Write(claim.lease, reports=[MetricReport(3, metrics)], outcome=outcome, result=result)
    assert operations.record(lab.store, [write]) == []


def confirmed(lab: Laboratory, name: str, tests: Mapping[int, float], **changes: Any) -> None:
    """A study that has confirmed its best: each configuration's share of the test images by its trial of the search."""
    confirming(lab, name, **changes)
    search(lab, name, SEARCHED)
    while claims := runs_of(lab, name):
        for claim in claims:
            finish(lab, claim, tests)


def test_a_confirmation_is_announced_followed_and_told_without_a_trace_in_the_search(page: Page, live_lab: Laboratory) -> None:
    confirming(live_lab, "followed")
    page.goto("/studies/followed")
    panel = page.get_by_role("region", name="Confirmation")
    expect(panel).to_contain_text("its best 2 configurations and the baseline are trained again, with up to 3 new seeds each")
    expect(panel).to_contain_text(f"scored on {TEST_IMAGES} test images, which are not used before")
    expect(page.locator("#live")).to_have_text("live")
    search(live_lab, "followed", SEARCHED)
    expect(page.locator("#figures")).to_contain_text("Best accuracy of the search90.00 %")
    expect(page.locator("#best")).to_contain_text(
        "Not confirmed: the configuration of trial 1. The best of 3 trials looks better than it is."
    )
    (first, *others) = runs_of(live_lab, "followed")
    expect(page.locator("#state")).to_contain_text("confirming")
    expect(panel).to_contain_text("The confirmation is under way")
    expect(panel).to_contain_text("9 runs are running, 0 queued")
    expect(page.get_by_role("button", name="Queue a trial")).to_be_hidden()
    live_lab.report(first, 1, accuracy=0.125)
    finish(live_lab, first, {0: 0.6, 1: 0.8, 2: 0.7})
    expect(panel.locator(".arms-canvas .run")).to_have_count(1)
    expect(panel.locator(".arms-canvas .star")).to_have_count(0)
    for claim in others:
        finish(live_lab, claim, {0: 0.6, 1: 0.8, 2: 0.7})
    assert not runs_of(live_lab, "followed")
    expect(page.locator("#state")).to_contain_text("confirmed")
    expect(panel.locator(".arms-canvas .run")).to_have_count(9)
    expect(panel.locator(".finding")).to_contain_text("Trial 1 is recommended")
    expect(panel.locator("#confirmation-worth")).to_contain_text(re.compile(r"Expected accuracy81\.\d %95 % interval"))
    expect(panel.locator("#confirmation-worth")).to_contain_text("Uplift over the baseline+20.0 points")
    expect(panel.locator("#confirmation-worth")).to_contain_text("Did tuning help?Yes")
    expect(panel.get_by_role("link", name="Use it")).to_have_attribute("href", "/studies/followed/best")
    expect(page.locator("#best")).to_contain_text("Confirmed: the configuration of trial 1.")
    assert page.locator("#trials").get_attribute("aria-rowcount") == "4"
    expect(page.locator("#history")).to_have_attribute("aria-label", "accuracy of 3 complete trials; the best is 90.00 %, trial 1")
    expect(page.locator("#curves")).to_have_attribute("aria-label", re.compile("^accuracy by epoch of 3 trials"))


def test_runs_that_began_before_the_page_was_opened_are_no_trials_of_the_search(page: Page, live_lab: Laboratory) -> None:
    confirming(live_lab, "opened-late")
    search(live_lab, "opened-late", SEARCHED)
    first, *_ = runs_of(live_lab, "opened-late")
    page.goto("/studies/opened-late")
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")
    expect(page.locator("#live")).to_have_text("live")
    live_lab.report(first, 1, accuracy=0.125)
    finish(live_lab, first, {0: 0.5, 1: 0.5, 2: 0.5})
    expect(page.locator(".arms-canvas .run")).to_have_count(1)
    expect(page.locator("#curves")).to_have_attribute("aria-label", re.compile("^accuracy by epoch of 3 trials"))
    assert page.locator("#trials").get_attribute("aria-rowcount") == "4"


def test_the_chart_is_walked_by_keys_and_says_what_it_shows_as_its_table_does(page: Page, live_lab: Laboratory) -> None:
    confirmed(live_lab, "compared", {0: 0.6, 1: 0.8, 2: 0.7})
    page.goto("/studies/compared")
    rows = page.locator(".arms-canvas a")
    expect(rows).to_have_count(3)
    reported = [row.get_attribute("aria-label") or "" for row in rows.all()]
    assert [re.split(";|, ", one)[0] for one in reported] == ["Trial 1", "Trial 2", "Trial 0"]
    assert reported[0].startswith("Trial 1, recommended; 81.0 % on the test images over 3 runs; 95 % interval ")
    assert reported[0].endswith("90.00 % in the search")
    assert reported[2].startswith("Trial 0, baseline; 61.0 %")
    page.get_by_text("As a table").first.press("Enter")
    table = page.locator(".arms-table")
    expect(table.get_by_role("row")).to_have_count(4)
    best = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Trial 1"))
    expect(best).to_contain_text("80.00 %, 81.00 %, 82.00 %")
    expect(best).to_contain_text("recommended")
    expect(best.get_by_role("link")).to_have_count(4)
    rows.first.focus()
    page.keyboard.press("Tab")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/studies/compared/trials/2$"))


def test_where_nothing_helps_the_page_says_so(page: Page, live_lab: Laboratory) -> None:
    confirmed(live_lab, "helpless", {0: 0.6, 1: 0.6, 2: 0.6})
    page.goto("/studies/helpless")
    expect(page.locator("#confirmation-worth")).to_contain_text("Did tuning help?No")
    expect(page.locator("#confirmation-list")).to_contain_text("Tuning did not help")
    expect(page.locator("#confirmation-worth")).to_contain_text("Optimism of the search")
    expect(page.locator(".arms-canvas .tied text")).to_have_text("3 statistically tied")
    page.goto("/studies/helpless/best")
    expect(page.locator("#standing")).to_contain_text("Tuning did not help")


def test_a_study_that_stops_meanwhile_recommends_nothing(page: Page, live_lab: Laboratory) -> None:
    confirming(live_lab, "stopped-meanwhile")
    search(live_lab, "stopped-meanwhile", SEARCHED)
    for claim in runs_of(live_lab, "stopped-meanwhile")[:7]:
        finish(live_lab, claim, {0: 0.6, 1: 0.8, 2: 0.7})
    operations.stop_study(live_lab.store, live_lab.id_of("stopped-meanwhile"))
    page.goto("/studies/stopped-meanwhile")
    expect(page.locator(".finding")).to_contain_text("ended before its confirmation did")
    expect(page.locator(".arms-canvas .star")).to_have_count(0)
    expect(page.locator("#best")).to_contain_text("Not confirmed")
    page.goto("/studies/stopped-meanwhile/best")
    expect(page.locator("#standing")).to_contain_text("Not confirmed. The best of 3 trials looks better than it is.")


def test_a_study_that_stops_before_its_confirmation_says_so(page: Page, live_lab: Laboratory) -> None:
    confirming(live_lab, "stopped-before")
    live_lab.finish(live_lab.claim_from("stopped-before"), 0.9)
    operations.stop_study(live_lab.store, live_lab.id_of("stopped-before"))
    for address, place in (("", "#confirmation"), ("/best", "#standing")):
        page.goto(f"/studies/stopped-before{address}")
        expect(page.locator(place)).to_contain_text("The study ended before its confirmation began.")


def test_the_best_page_becomes_the_confirmed_one_and_hands_it_over_in_each_form(page: Page, live: Served, live_lab: Laboratory) -> None:
    confirming(live_lab, "handed over")
    search(live_lab, "handed over", SEARCHED)
    page.goto("/studies/handed over/best")
    expect(page.locator("#standing")).to_contain_text("Not confirmed. The best of 3 trials looks better than it is.")
    expect(page.locator("#figures")).to_contain_text("Measured accuracy90.00 %")
    expect(page.locator("#command-verify")).to_have_count(0)
    expect(page.locator("#live")).to_have_text("live")
    for claim in runs_of(live_lab, "handed over"):
        finish(live_lab, claim, {0: 0.6, 1: 0.7, 2: 0.8})
    assert not runs_of(live_lab, "handed over")
    expect(page.locator("#phase")).to_have_text("confirmed")
    expect(page.locator("#standing .finding")).to_contain_text("Trial 2 is recommended")
    expect(page.locator("#figures")).to_contain_text("the best of the search was trial 1")
    params = live_lab.store.read(queries.find_trial, live_lab.id_of("handed over"), 2).params
    expect(page.locator("#parameters")).to_contain_text(str(params["optimizer"]))
    expect(page.locator("#command-script")).to_have_text("python handed-over-train.py")
    expect(page.locator("#command-verify")).to_have_text("thaw verify handed-over-best.yaml")
    names = {
        "Download YAML": "-best.yaml",
        "JSON": "-best.json",
        "Python script": "-train.py",
        "Model card": "-card.md",
        "Requirements": "",
    }
    for name, end in names.items():
        with page.expect_download() as downloading:
            page.get_by_role("group", name="Download").get_by_role("link", name=name).click()
        assert downloading.value.suggested_filename == f"handed-over{end or '-requirements.txt'}"
    page.get_by_role("tab", name="Python script").click()
    expect(page.locator("#file")).to_contain_text("from service.cli import main")
    ast.parse(page.locator("#file").inner_text())
    page.get_by_role("tab", name="Python script").press("ArrowRight")
    given = httpx2.get(f"{live.address}/api/v1/studies/handed over/best", params={"format": "card"}).text
    expect(page.locator("#file")).to_have_text(given, use_inner_text=False)
    assert page.url.endswith("?format=card")


def test_the_page_of_a_run_says_its_round_and_its_scores(page: Page, live_lab: Laboratory) -> None:
    confirmed(live_lab, "rounds", {0: 0.6, 1: 0.8, 2: 0.7})
    repeat = next(
        one for one in live_lab.store.read(queries.confirmation_trials, live_lab.id_of("rounds")) if (one.confirms, one.round) == (1, 2)
    )
    page.goto(f"/studies/rounds/trials/{repeat.number}")
    expect(page.locator("#origin")).to_contain_text("Round 2 of the confirmation of trial 1")
    expect(page.locator("#origin").get_by_role("link", name="trial 1")).to_have_attribute("href", "/studies/rounds/trials/1")
    expect(page.locator("#figures")).to_contain_text("accuracy on the test images81.00 %")
    expect(page.locator("#scores")).to_contain_text(f"on {TEST_IMAGES} images that no trial of the search has used")
    page.get_by_text("Confusion on the test images").click()
    expect(page.locator("#scores .confusion").get_by_role("cell", name="81")).to_have_count(2)
    page.goto("/studies/rounds/trials/1")
    expect(page.locator("#figures")).to_contain_text("★ the best so far")
    expect(page.locator("#scores-panel")).to_be_hidden()


def test_the_list_marks_studies_that_confirm_and_that_are_confirmed(page: Page, live_lab: Laboratory) -> None:
    confirmed(live_lab, "marked-done", {0: 0.6, 1: 0.8, 2: 0.7})
    confirming(live_lab, "marked-running")
    search(live_lab, "marked-running", SEARCHED)
    assert runs_of(live_lab, "marked-running")
    confirming(live_lab, "marked-searching")
    page.goto("/?q=marked-")
    expect(page.locator("#studies > li")).to_have_count(3)
    marks = {card.locator("h2").inner_text(): card.locator(".phase").all_inner_texts() for card in page.locator("#studies > li").all()}
    assert marks == {"marked-done": ["confirmed"], "marked-running": ["confirming"], "marked-searching": []}


def test_near_duplicates_and_labels_that_contradict_each_other_stand_among_the_facts(page: Page, live_lab: Laboratory) -> None:
    twins = NearDuplicates(groups=2, images=5, crossing=1, mixed=1, examples=(("cat/<b>1.png", "dog/2.png"),))
    confirming(live_lab, "twins", found=facts(near_duplicates=twins))
    page.goto("/studies/twins")
    row = page.locator("#facts")
    expect(row).to_contain_text("5 images in 2 groups, each kept in one part of the split. 1 would have been divided.")
    expect(row.locator(".fault")).to_contain_text("1 group has more than one label")
    row.get_by_text("Examples").click()
    expect(row).to_contain_text("cat/<b>1.png = dog/2.png")


def test_the_facts_show_the_given_split_and_what_was_left_out(page: Page, live_lab: Laboratory) -> None:
    listing = ListingFacts(
        given=("train", "test"), notes=("The data's own split is used: train/ for train, test/ for test.",), unused_columns=("<b>age",),
        left_out=(LeftOut(reason="broken link", count=1200, examples=("cat/<b>1.png",)),),
    )  # fmt: skip
    near = NearDuplicates(groups=2, images=5, crossing=0, mixed=0, across=1)
    damaged = ImageExamples(count=2, examples=("cat/<b>2.png: truncated", "dog/3.png: empty"))
    confirming(live_lab, "split-given", found=facts(near_duplicates=near, listing=listing, unreadable=damaged))
    page.goto("/studies/split-given")
    row = page.locator("#facts")
    for said in (
        "The data's own split is used: train/ for train, test/ for test.",
        "<b>age",
        "1,202 files left out",
        "1,200: broken link (cat/<b>1.png, …)",
        "2: cannot be read as an image (cat/<b>2.png: truncated, dog/3.png: empty)",
    ):
        expect(row).to_contain_text(said)
    expect(row.locator(".fault")).to_contain_text("1 group has images in several parts of the data's own split and was not moved")


def test_the_facts_show_the_largest_class_and_the_notes_about_images(page: Page, live_lab: Laboratory) -> None:
    counts = {"train": (594, 6), "validation": (198, 2), "test": (198, 2)}
    skipped = ImageExamples(count=1, examples=("cat/<b>1.png: truncated",))
    study = live_lab.study("unequal", checked=False)
    operations.pass_check(live_lab.store, study.id, facts(class_counts=counts, unreadable=skipped))
    live_lab.finish(live_lab.claim_from("unequal"), 0.95)
    page.goto("/studies/unequal")
    row = page.locator("#facts")
    expect(row).to_contain_text("The largest class, cat, has 99.0 % of the validation images. Always answering it gives accuracy 99.0 %.")
    expect(row).to_contain_text("1 image is left out as unreadable: cat/<b>1.png: truncated.")
    expect(row.locator(".fault")).to_contain_text("The best result so far is not better than this. Recall")


def test_a_page_drawn_while_the_facts_are_read_shows_them_afterwards(page: Page, live_lab: Laboratory) -> None:
    errors: list[str] = []
    held: list[Route] = []
    page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    study = live_lab.study("facts-late", checked=False)
    page.goto("/studies/facts-late")
    row = page.locator("#facts")
    expect(row).to_contain_text("checked by the first worker")
    page.route("**/api/v1/studies/*", lambda route: held.append(route))  # the reading of the facts waits until the test lets it go on
    with page.expect_request("**/api/v1/studies/*"):
        operations.pass_check(live_lab.store, study.id, facts())
    page.locator("#filter").fill("lr < 0.01")
    page.wait_for_timeout(500)
    expect(row).to_contain_text("checked by the first worker")
    held[0].continue_()
    expect(row).to_contain_text("600 train, 200 validation")
    assert errors == []


def test_the_facts_show_notices_and_those_of_a_larger_budget(page: Page, live_lab: Laboratory) -> None:
    study = live_lab.study("noticed", sampler={"name": "tpe", "n_startup_trials": 20}, pruner={"name": "asha", "min_steps": 9})
    page.goto("/studies/noticed")
    row = page.locator("#facts > div").filter(has_text="Notices")
    expect(row.locator("p")).to_have_count(2)
    expect(row).to_contain_text("sampler / n_startup_trials: all 20 trials are sampled at random")
    expect(row).to_contain_text("pruner: the pruner never acts")
    operations.extend_study(live_lab.store, study.id, parse_budget_change({"add": {"trials": 20}}))
    expect(row.locator("p")).to_have_count(1)
    expect(row).not_to_contain_text("drawn at random")


def test_the_form_confirms_by_default_and_tells_what_it_needs(page: Page, live_lab: Laboratory) -> None:
    page.goto("/new")
    page.get_by_label("Name", exact=True).fill("confirmed-by-form")
    page.get_by_label("Path of the data").fill("/data/digits")
    page.get_by_label("Location").select_option("accessible to workers only")
    expect(page.locator("#verdict")).to_contain_text("the best 3 and the baseline, up to 5 seeds each")
    page.get_by_label("Test share").fill("0")
    page.get_by_role("textbox", name="Seeds").fill("1")
    expect(page.locator("#verdict")).to_contain_text("confirm / seeds")
    page.get_by_role("textbox", name="Seeds").fill("4")
    page.get_by_label("Test share").focus()
    message = "confirm scores configurations on test images that no trial has used"
    expect(page.locator('[data-pointer="#/data/test"]')).to_contain_text(message)
    wanted = page.get_by_role("checkbox", name="train the best configurations and the baseline again")
    wanted.uncheck()
    expect(page.locator("#verdict")).to_contain_text("Confirmnothing")
    expect(page.get_by_role("textbox", name="Seeds")).to_have_count(0)
    page.get_by_label("Test share").fill("")
    wanted.check()
    expect(page.get_by_label("Test share")).to_have_value("0.2")
    page.get_by_label("Best configurations", exact=True).fill("2")
    page.get_by_role("button", name="Create the study").click()
    expect(page).to_have_url(re.compile("/studies/confirmed-by-form$"))
    spec = live_lab.store.read(queries.find_study, "confirmed-by-form").spec
    assert spec.confirm is not None and (spec.confirm.top, spec.confirm.seeds, training(spec).data.test) == (2, 5, 0.2)


def test_the_pruning_is_looked_back_on_when_it_is_unfolded(page: Page, live_lab: Laboratory) -> None:
    live_lab.study("looked-back", budget={"trials": 3}, pruner={"name": "median", "n_startup_trials": 1})
    for claim, value in zip(live_lab.claims_from("looked-back", 50), (0.9, 0.5, 0.7), strict=True):
        live_lab.report(claim, 1, accuracy=value / 2, loss=1.0)
        live_lab.finish(claim, value)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/pruning") else None)
    page.goto("/studies/looked-back")
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")
    assert asked == []
    page.locator("#pruning summary").press("Enter")
    expect(page.locator("#pruning-body li").first).to_be_visible()
    own = page.locator(".pruners tr.own")
    expect(own).to_have_count(1)
    expect(own).to_contain_text("this study's")
    expect(own).to_contain_text("Trial 0")
    assert len(asked) == 1
