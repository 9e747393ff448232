"""The pages of trials by target: report, most wrong examples with texts or pictures, test report, facts and comparison."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from starlette.testclient import TestClient

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Claim, MetricReport
from service.operations import Write
from tests.operations.driving import PICTURE, WRONG
from tests.web.laboratory import FACTS, Laboratory, study_document
from trainer.configuration import DatasetInfo
from trainer.protocol import Finished
from trainer.tasks.image_multilabel.config import ImageMultilabelInfo
from trainer.tasks.image_regression.config import ImageRegressionInfo
from trainer.tasks.text_classification.spec import TextClassificationInfo
from trainer.tasks.text_multilabel.spec import TextMultilabelInfo
from trainer.tasks.text_regression.spec import TextRegressionInfo

pytestmark = pytest.mark.browser

DIGESTS: dict[str, Any] = {"fingerprint": "ab" * 32, "split": "cd" * 32, "weights_sha256": None}
SIZES = {"train": 60, "validation": 20, "test": 20}
HOSTILE = "<img src=x onerror=alert(1)>.png"


def numbers(mean: float) -> dict[str, float]:
    return {"count": 60, "mean": mean, "std": 4.25, "min": 0.0, "max": 31.0, "median": 12.0, "mean_deviation": 3.0}


NUMBERS = ImageRegressionInfo(images=SIZES, numbers={"train": numbers(12.5), "validation": numbers(11.0)}, **DIGESTS)
LABELS = ImageMultilabelInfo(
    images=SIZES, labels=("beach", "sea", "town"), label_counts={"train": (30, 20, 10)}, without_labels={"train": 7}, **DIGESTS
)
BINS = [
    {"low": 0.0, "high": 9.0, "count": 10, "target": 5.0, "predicted": 6.5, "p10": 3.0, "p90": 9.5},
    {"low": 10.0, "high": 31.0, "count": 10, "target": 20.0, "predicted": 18.0, "p10": 12.0, "p90": 24.0},
]
OF_NUMBERS: dict[str, Any] = {
    "residual_quantiles": (-4.5, -1.0, 0.25, 2.0, 5.0),
    "bins": BINS,
    "worst_numbers": [{"name": HOSTILE, "target": 31.0, "predicted": 19.5}, {"name": "b.png", "target": 0.0, "predicted": 7.25}],
}


OF_CLASSES: dict[str, Any] = {"per_class_recall": {"cat": 1.0, "dog": 0.5}, "confusion_matrix": ((10, 0), (5, 5))}


def label(f1: float, auroc: float | None = 0.9) -> dict[str, Any]:
    return {
        "examples": 10, "predicted": 12, "hits": 8, "precision": 0.75, "recall": 0.5, "f1": f1, "auroc": auroc, "average_precision": 0.625,
    }  # fmt: skip


OF_LABELS: dict[str, Any] = {
    "threshold": 0.35,
    "per_label": {"beach": label(0.8), "sea": label(0.6, None), "town": label(0.25)},
    "worst_labels": [{"name": "c.png", "missing": ["sea", "town"], "extra": [], "loss": 2.5}],
}


OF_TEXTS = {"model": {"name": "owner/bert"}, "fixed": {"epochs": 3, "max_length": 64}}


IN_PARTS: dict[str, Any] = {"rows": SIZES, "duplicate_texts": None, **DIGESTS}
TEXTS: dict[str, tuple[DatasetInfo, dict[str, Any]]] = {
    "text_classification": (TextClassificationInfo(classes=("cat", "dog"), **IN_PARTS), OF_CLASSES),
    "text_regression": (TextRegressionInfo(numbers={"train": numbers(12.5)}, **IN_PARTS), OF_NUMBERS),
    "text_multilabel": (TextMultilabelInfo(labels=LABELS.labels, label_counts=LABELS.label_counts, **IN_PARTS), OF_LABELS),
}


def ended(lab: Laboratory, name: str, task: str, facts: DatasetInfo, report: dict[str, Any], metrics: dict[str, float]) -> Claim:
    """A trial of a new study of the task that ended with that report."""
    metric, direction = ("rmse", "minimize") if task.endswith("regression") else ("f1", "maximize")
    data = {"path": "/data/table.csv", "location": "workers"}
    changes: dict[str, Any] = {"task": task, "data": data, "objective": {"metric": metric, "direction": direction}}
    changes |= OF_TEXTS if task.startswith("text") else {}
    study = operations.create_study(lab.store, parse_study(study_document(name, **changes)))
    operations.pass_check(lab.store, study.id, facts)
    claim = lab.claim_from(name)
    done = Finished(step=3, metrics=metrics, report=report, train_seconds=1.0, peak_memory=1)
    assert operations.record(lab.store, [Write(claim.lease, reports=[MetricReport(3, metrics)], outcome=done)]) == []
    return claim


def cells(panel: Locator, row: str) -> Locator:
    return panel.get_by_role("row").filter(has=panel.page.get_by_role("rowheader", name=row, exact=True)).get_by_role("cell")


def test_a_regression_shows_predictions_by_target_and_the_largest_residuals(page: Page, live_lab: Laboratory) -> None:
    ended(live_lab, "cells", "image_regression", NUMBERS, OF_NUMBERS, {"rmse": 3.5, "mae": 2.5, "r2": 0.5, "pearson": 0.8, "spearman": 0.7})
    page.goto("/studies/cells/trials/0")
    by_target = page.get_by_role("region", name="Predictions by target", exact=True)
    chart = by_target.get_by_role("img")
    expect(chart).to_have_attribute("aria-label", "Predictions by target in 2 bins. target 5: predicted 6.5; target 20: predicted 18")
    expect(chart.locator("circle")).to_have_count(2)
    below, above = (chart.locator("circle").nth(place).bounding_box() for place in (0, 1))
    line = chart.locator("line.right").bounding_box()
    assert below and above and line and below["x"] < above["x"] and below["y"] > above["y"] and line["width"] > 200
    by_target.get_by_text("Residuals (prediction less target)").click()
    expect(cells(by_target, "5 %")).to_have_text("\u22124.5")
    expect(cells(by_target, "95 %")).to_have_text("+5")
    worst = page.get_by_role("region", name="Largest residuals", exact=True).first
    expect(cells(worst, HOSTILE)).to_have_text(["31", "19.5", "\u221211.5"])
    expect(cells(worst, "b.png")).to_have_text(["0", "7.25", "+7.25"])
    page.goto("/studies/cells")
    expect(page.locator("#facts")).to_contain_text("training 0 to 31, mean 12.5, deviation 4.25")


def test_the_most_wrong_images_are_shown_with_true_and_predicted_class(page: Page, live_lab: Laboratory) -> None:
    wrong = [WRONG | {"name": HOSTILE, "target": HOSTILE, "picture": PICTURE}, WRONG | {"name": "b.png"}]
    ended(live_lab, "wrong-pets", "image_classification", FACTS, OF_CLASSES | {"worst_classes": wrong}, {"f1": 0.5})
    page.goto("/studies/wrong-pets/trials/0")
    worst = page.get_by_role("region", name="Most wrong predictions", exact=True).first
    expect(worst.get_by_role("columnheader")).to_have_text(
        ["Image", "Picture", "True class", "Its probability", "Predicted class", "Its probability"]
    )
    expect(cells(worst, HOSTILE)).to_have_text(["", HOSTILE, "12.5 %", "dog", "75 %"])
    expect(cells(worst, "b.png")).to_have_text(["\u2013", "cat", "12.5 %", "dog", "75 %"])
    shown = worst.get_by_role("img", name=HOSTILE)
    shown.evaluate("image => image.decode()")
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [24, 24], "the content policy lets it be shown"
    box = shown.bounding_box()
    assert box is not None and 40 < box["width"] < 120


def test_no_other_page_may_show_pictures_from_its_own_data(client: TestClient) -> None:
    policies = {
        path: client.get(path).headers["Content-Security-Policy"] for path in ("/studies/a/trials/0", "/studies/a", "/studies/a/best", "/")
    }
    allowed = {path for path, policy in policies.items() if "data:" in policy}
    assert allowed == {"/studies/a/trials/0"}
    policy = policies["/studies/a/trials/0"]
    assert policy == f"{policies['/']}; img-src 'self' data:" and "default-src 'self'" in policy


@pytest.mark.parametrize(
    ("task", "kind", "report", "others"),
    [
        ("text_classification", "worst_classes", WRONG, ["cat", "12.5 %", "dog", "75 %"]),
        ("text_regression", "worst_numbers", {"name": "", "target": 31.0, "predicted": 19.5}, ["31", "19.5", "\u221211.5"]),
        ("text_multilabel", "worst_labels", {"name": "", "missing": ["sea"], "extra": [], "loss": 2.5}, ["sea", "\u2013", "2.5"]),
    ],
)
def test_the_most_wrong_texts_are_shown(
    page: Page, live_lab: Laboratory, task: str, kind: str, report: dict[str, Any], others: list[str]
) -> None:
    facts, usual = TEXTS[task]
    long = "words of a text that go on " * 11
    wrong = [
        report | {"name": "train.csv:7", "text": f"{HOSTILE} first", "text_b": "second"},
        report | {"name": "train.csv:8", "text": long},
        report | {"name": "train.csv:9", "text": ""},
        report | {"name": "train.csv:10"},
    ]
    ended(live_lab, f"wrong-{task}", task, facts, usual | {kind: wrong}, {"rmse" if task == "text_regression" else "f1": 0.5})
    page.goto(f"/studies/wrong-{task}/trials/0")
    worst = page.locator("#worst")
    expect(worst.get_by_role("columnheader").nth(0)).to_have_text("Place")
    expect(worst.get_by_role("columnheader").nth(1)).to_have_text("Text")
    expect(cells(worst, "train.csv:7")).to_have_text([f"{HOSTILE} firstsecond", *others])
    expect(cells(worst, "train.csv:8")).to_have_text([long.strip(), *others])
    expect(cells(worst, "train.csv:9").first).to_have_text("(empty)")
    expect(cells(worst, "train.csv:10").first).to_have_text("\u2013")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the table scrolls, the page does not"


def test_a_trial_without_a_wrong_prediction_says_so_and_one_of_an_earlier_version_names_none(page: Page, live_lab: Laboratory) -> None:
    for name, report in (("all-right", OF_CLASSES | {"worst_classes": []}), ("of-before", OF_CLASSES)):
        ended(live_lab, name, "image_classification", FACTS, report, {"f1": 1.0})
    page.goto("/studies/all-right/trials/0")
    expect(page.locator("#worst")).to_have_text("No validation image was predicted wrongly.")
    page.goto("/studies/of-before/trials/0")
    expect(page.locator("#worst")).to_have_text("The report names no examples.")


def test_compared_regressions_have_their_charts_and_quantiles_side_by_side(page: Page, live_lab: Laboratory) -> None:
    for name in ("cells-a", "cells-b"):
        ended(live_lab, name, "image_regression", NUMBERS, OF_NUMBERS, {"rmse": 3.5})
    page.goto("/compare?trial=cells-a:0&trial=cells-b:0")
    expect(page.locator(".charts-by-target svg")).to_have_count(2)
    expect(cells(page.get_by_role("region", name="Residuals", exact=True).first, "50 %")).to_have_text(["+0.25", "+0.25"])


def test_a_multilabel_trial_shows_a_table_by_label_and_the_largest_losses(page: Page, live_lab: Laboratory) -> None:
    ended(live_lab, "scenes", "image_multilabel", LABELS, OF_LABELS, {"f1": 0.55, "hamming": 0.125, "loss": 0.4})
    page.goto("/studies/scenes/trials/0")
    table = page.get_by_role("region", name="Results by label", exact=True).first
    expect(table).to_contain_text("A label is predicted from a probability of 0.35 on")
    expect(cells(table, "beach")).to_have_text(["10", "12", "75 %", "50 %", "80 %", "90 %", "62.5 %"])
    expect(cells(table, "sea").nth(5)).to_have_text("\u2013")
    worst = page.get_by_role("region", name="Largest losses", exact=True).first
    expect(cells(worst, "c.png")).to_have_text(["sea, town", "\u2013", "2.5"])
    page.goto("/studies/scenes")
    expect(page.locator("#facts")).to_contain_text("3: beach, sea, town")
    expect(page.locator("#facts")).to_contain_text("7 images")


def test_compared_multilabel_trials_have_the_best_f1_of_each_label_marked(page: Page, live_lab: Laboratory) -> None:
    better = {**OF_LABELS, "per_label": {**OF_LABELS["per_label"], "town": label(0.5)}}
    for name, report in (("scenes-a", OF_LABELS), ("scenes-b", better)):
        ended(live_lab, name, "image_multilabel", LABELS, report, {"f1": 0.55})
    page.goto("/compare?trial=scenes-a:0&trial=scenes-b:0")
    panel = page.get_by_role("region", name="F1 of each label", exact=True)
    expect(cells(panel, "town")).to_have_text(["25 %", "★ 50 %"])
    expect(cells(panel, "beach")).to_have_text(["80 %", "80 %"])


@pytest.mark.parametrize(
    ("task", "objective"), [("image_regression", "rmse, lower is better"), ("image_multilabel", "f1, higher is better")]
)
def test_the_form_offers_the_task(page: Page, live_lab: Laboratory, task: str, objective: str) -> None:
    data = {"path": "/data/table.csv", "location": "workers"}
    metric, direction = ("rmse", "minimize") if task == "image_regression" else ("f1", "maximize")
    changes = {"task": task, "data": data, "objective": {"metric": metric, "direction": direction}}
    operations.create_study(live_lab.store, parse_study(study_document(f"copied-{task}", **changes)))
    page.goto(f"/new?from=copied-{task}")
    expect(page.get_by_label("Objective")).to_contain_text(objective)
    expect(page.locator("#verdict")).to_contain_text("Ready to create")
