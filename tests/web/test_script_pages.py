"""The pages of a study of a script, which has neither data nor model, and metrics of any name."""

import pytest
from playwright.sync_api import Page, expect

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import MetricReport
from service.store import queries
from tests.operations.test_scripts import FACTS, STUDY
from tests.web.laboratory import Laboratory
from trainer.protocol import Finished, Scores

pytestmark = pytest.mark.browser

CONFIRMED = {"confirm": {"top": 1, "seeds": 2}, "baseline": {"lr": 0.9, "unused": "a"}, "budget": {"trials": 3}}


def made(lab: Laboratory, name: str) -> None:
    """A study that has confirmed its best."""
    study = operations.create_study(lab.store, parse_study({**STUDY, **CONFIRMED, "name": name}))
    operations.pass_check(lab.store, study.id, FACTS)
    while claims := lab.claims_from(name, 1) or lab.claims_from(name, 1):
        for claim in claims:
            number = claim.lease.number
            metrics = {"val/loss": 0.5 if number == 0 else 0.25 + number / 1000, "seconds": 1.5}
            test = Scores(metrics=metrics) if claim.round is not None else None
            outcome = Finished(step=2, metrics=metrics, train_seconds=2, peak_memory=3, test=test)
            reports = [MetricReport(1, {"val/loss": 0.75, "seconds": 0.5}), MetricReport(2, metrics)]
            written = operations.Write(
                claim.lease, reports=reports, outcome=outcome, result={"environment": {"python": "3.11"}, "trainable": 0, "curve": "0" * 32}
            )
            assert operations.record(lab.store, [written]) == []
    assert lab.store.read(queries.find_study, study.id).state == "complete"


def test_every_page_shows_a_script(page: Page, live_lab: Laboratory) -> None:
    made(live_lab, "scripted")
    seen = {
        "/": ("scripted", "python train.py ${args}", "0.251"),
        "/studies/scripted": (
            "/srv/code",
            "Files",
            "train.py",
            "val/loss",
            "with fresh seeds",
            "over seeds; the script chooses the data",
            "No parameter has an effect: the curves of val/loss of all 3 complete trials are equal bit for bit",
        ),
        "/studies/scripted/best": ("thaw train scripted-best.yaml --out trained --allow-scripts /srv/code", "fingerprint"),
        "/studies/scripted/trials/1": ("val/loss", "seconds", "It completed"),
        "/compare?trial=scripted:0&trial=scripted:1": ("python train.py ${args}", "val/loss"),
    }
    for address, texts in seen.items():
        page.goto(address)
        for text in texts:
            expect(page.locator("body")).to_contain_text(text)
        expect(page.locator("body")).not_to_contain_text("test example")
        expect(page.get_by_role("heading", name="Report", exact=True)).to_have_count(0)  # a script reports metrics alone
    page.goto("/studies/scripted/best")
    expect(page.get_by_role("tab", name="YAML")).to_be_visible()
    expect(page.get_by_role("tab", name="Model card")).to_be_hidden()


def test_there_is_no_form_for_a_script(page: Page, live_lab: Laboratory) -> None:
    made(live_lab, "unformed")
    page.goto("/new?from=unformed")
    expect(page.get_by_text("thaw study create FILE")).to_be_visible()
    page.goto("/new")
    expect(page.get_by_label("Task").locator("option", has_text="text classification")).to_have_count(1)
    expect(page.get_by_label("Task").locator("option", has_text="script")).to_have_count(0)
