"""The range of an axis: a few values that lie far out do not flatten the others; they are marked at the edge and counted."""

import itertools
import math
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from service import operations
from service.domain.records import MetricReport
from tests.web.laboratory import Laboratory
from trainer.protocol import Finished

pytestmark = pytest.mark.browser

RANGE = """([values, share]) => import("/static/range.js").then(({ robustRange }) => robustRange(values, share))"""
MEASURE = """const { measureOf } = await import("/static/measures.js");
  const it = (record) => measureOf({ metrics: { it: record } }, "it");
"""
LOSSES: dict[str, Any] = {"objective": {"metric": "loss", "direction": "minimize"}}


@pytest.mark.parametrize(
    ("values", "low", "high", "log"),
    [
        ([0.7, 0.5, 1e12], 0.5, 0.7, False),
        ([0.7, 0.5, 1e12, 0.65], 0.5, 0.7, False),
        ([0.7, 0.5, -1e12], 0.5, 0.7, False),
        ([0.5, 0.5, 0.7], 0.5, 0.7, False),
        ([0.5, 0.7], 0.5, 0.7, False),
        ([3.0], 3.0, 3.0, False),
        ([2.3, 1.1, 0.9, 0.8, 0.75, 0.7, 0.69], 0.69, 2.3, False),
        ([1e-4, 1e-2, 1, 100], 1e-4, 100, True),
        ([1e-5, 0.1], 1e-5, 0.1, True),
        ([0.1 + number / 100 for number in range(50)] + [1e6, 1e9, 1e12], 0.1, 0.59, False),
        ([1.0, 10.0, 100.0, 1e3, 1e4, 1e300], 1, 1e4, True),
        ([-5.0, 0.0, 1e3, 2e3], -5, 2e3, False),
    ],
)
def test_the_range_holds_all_but_what_lies_far_out(page: Page, values: list[float], low: float, high: float, log: bool) -> None:
    page.goto("/login")
    found = page.evaluate(RANGE, [values, False])
    assert (found["low"], found["high"], found["log"]) == (pytest.approx(low), pytest.approx(high), log)


def test_without_values_there_is_no_range_and_shares_are_never_logarithmic(page: Page) -> None:
    page.goto("/login")
    assert page.evaluate(RANGE, [[], False]) is None
    assert not page.evaluate(RANGE, [[1e-5, 0.5, 0.9], True])["log"]


def test_no_share_between_0_and_1_is_beyond_the_axis(page: Page) -> None:
    page.goto("/login")
    assert page.evaluate(RANGE, [[0.1241, 0.1265, 0.6642], True]) == {"low": 0.1241, "high": 0.6642, "log": False}
    assert page.evaluate(RANGE, [[0.1241, 0.1265, 1e12], True]) == {"low": 0.1241, "high": 0.1265, "log": False}


def test_the_marks_of_an_axis_stand_at_their_values(page: Page) -> None:
    """Also beyond the outermost value, as all marks but one do where all values are equal."""
    page.goto("/login")
    axis = f"""async (values) => {{ {MEASURE}
      const {{ valueAxis }} = await import("/static/axis.js");
      const {{ marks, free, place, low }} = valueAxis(values, it({{}}), 100, 0);
      return {{ marks, places: marks.map(free), same: free(low) === place(low) }};
    }}"""
    for values in ([0.02106, 0.02106], [0.0105, 0.71, 0.3]):
        found = page.evaluate(axis, values)
        steps = {round(one - other, 6) for one, other in itertools.pairwise(found["places"])}
        assert len(found["marks"]) > 1 and len(steps) == 1 and steps.pop() > 10 and found["same"]


def test_the_caption_lists_what_lies_farthest_out_and_on_which_side(page: Page) -> None:
    page.goto("/login")
    words = f"""async ([values, low, high]) => {{ {MEASURE}
      return (await import("/static/range.js")).beyondWords(it({{}}), values, low, high);
    }}"""
    assert page.evaluate(words, [[0.95, 0.9, 0.1, 0.3, 0.6, 0.2], 0.94, 1]) == (
        "▼ 5 values lie beyond the axis and are drawn at its edge: 0.1, 0.2, 0.3, …"
    )
    assert page.evaluate(words, [[0.5, -3, 7], 0, 1]) == "▲ ▼ 2 values lie beyond the axis and are drawn at its edge: 7, -3"


def test_large_numbers_are_written_with_significant_digits(page: Page) -> None:
    page.goto("/login")
    number = """(values) => import("/static/format.js").then(({ number }) => values.map(number))"""
    assert page.evaluate(number, [1e12, 123456789, 999999, 1234.5678, 0.00001234, 64]) == [
        "1e12",
        "1.23e8",
        "999999",
        "1235",
        "1.23e-5",
        "64",
    ]
    parameters = """(values) => import("/static/format.js").then(({ scalar }) => values.map(scalar))"""
    assert page.evaluate(parameters, [714211323, 0.123456]) == ["714211323", "0.1235"]  # a seed is copied
    mark = f"""async ([unit, values]) => {{ {MEASURE}
      const {{ mark }} = await import("/static/axis.js");
      return values.map((value) => mark(it({{ unit }}), value));
    }}"""
    assert page.evaluate(mark, ["nats", [2e12, 0.25, 1e7, -3]]) == ["2e+12", "0.25", "1e+7", "-3"]
    assert page.evaluate(mark, ["share", [0.25, 1]]) == ["25%", "100%"]


def ended(lab: Laboratory, name: str, losses: list[float], **changes: Any) -> None:
    """A study whose trials ended with these losses, each reported in three epochs."""
    lab.study(name, budget={"trials": len(losses)}, **LOSSES, **changes)
    for claim, loss in zip(lab.claims_from(name, len(losses)), losses, strict=True):
        for step, value in enumerate((0.9, 0.8, loss), 1):
            assert operations.record(lab.store, [operations.Write(claim.lease, reports=[MetricReport(step, {"loss": value})])]) == []
        matrix = ((10, 0), (5, 5))
        done = Finished(
            step=3, metrics={"loss": loss}, report={"per_class_recall": {}, "confusion_matrix": matrix}, train_seconds=1.0, peak_memory=1
        )
        assert operations.record(lab.store, [operations.Write(claim.lease, outcome=done)]) == []


def test_an_exploded_loss_is_marked_and_counted_on_the_page_of_a_study(page: Page, live_lab: Laboratory) -> None:
    ended(live_lab, "exploded", [0.7, 0.5, 1e12, math.nan])
    page.goto("/studies/exploded")
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")
    for chart in ("#history", "#curves"):
        expect(page.locator(f"{chart} + .beyond")).to_contain_text("1 value lies beyond the axis and is drawn at its edge: 1e12")
    page.locator("#history").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".tip")).to_contain_text("loss 1e12")


def test_an_exploded_loss_is_marked_and_counted_on_the_page_of_a_trial(page: Page, live_lab: Laboratory) -> None:
    ended(live_lab, "exploded-once", [1e12])
    page.goto("/studies/exploded-once/trials/0")
    chart = page.locator(".chart-group", has_text="Loss")
    expect(chart.locator(".lines-legend")).to_contain_text("1 value lies beyond the axis and is drawn at its edge: 1e12")
    expect(chart.locator("path.beyond title")).to_have_text("loss at epoch 3: 1e12, beyond the axis")
    marks = chart.locator(".tick").all_text_contents()
    assert all(len(mark) <= 5 for mark in marks) and "0.8" in "".join(marks)


def test_the_places_on_axes_beyond_their_ends_are_at_the_edge(page: Page) -> None:
    page.goto("/login")
    axis = f"""async (values) => {{ {MEASURE}
      const {{ valueAxis }} = await import("/static/axis.js");
      const {{ place, beyond, low, high }} = valueAxis(values, it({{}}), 100, 0);
      return {{ low, high, places: values.map(place), beyond: values.map(beyond) }};
    }}"""
    found = page.evaluate(axis, [0.7, 0.5, 1e12])
    assert (found["low"], found["high"], found["beyond"]) == (0.5, 0.7, [0, 0, 1])
    assert found["places"][2] == found["places"][0] < found["places"][1]
    scale = f"""async (values) => {{ {MEASURE}
      const {{ bounds, valueScale }} = await import("/static/study/scales.js");
      const {{ place, labels }} = valueScale(it({{}}), bounds(it({{}}), values), 100, 0, 5);
      return {{ places: values.map(place), labels }};
    }}"""
    found = page.evaluate(scale, [0.7, 0.5, 1e12])
    assert found["places"][2] == 0 and 80 < found["places"][1] < 100 and 0 < found["places"][0] < 20
    assert all(len(label) <= 5 for label in found["labels"])
    assert page.evaluate(scale, [1e-4, 1e-2, 1, 100])["labels"] == ["1e-4", "0.01", "1", "100"]


@pytest.mark.parametrize(
    ("record", "values", "low", "high"),
    [
        ({"unit": "share", "low": 0, "high": 1}, [0.2, 1.0], 0.144, 1.0),
        ({"high": 1}, [-3.0, 0.9], -3.3, 1.0),
        ({"low": 0}, [0.01, 4.0], 0.0, 4.3),
        ({}, [-2.0, 5.0], -2.5, 5.5),
        ({"low": 0, "high": 1}, [-2.0, 5.0], -2.5, 5.5),  # never less than the values
    ],
)
def test_an_axis_ends_where_the_range_of_the_metric_does(
    page: Page, record: dict[str, Any], values: list[float], low: float, high: float
) -> None:
    page.goto("/login")
    ends = f"""async ([record, values]) => {{ {MEASURE}
      const {{ valueAxis }} = await import("/static/axis.js");
      const {{ free }} = valueAxis(values, it(record), 0, 1);
      const per = values[1] - values[0];
      const [from, to] = values.map(free);
      return [values[0] - (per * from) / (to - from), values[1] + (per * (1 - to)) / (to - from)];
    }}"""
    assert page.evaluate(ends, [record, values]) == pytest.approx([low, high], abs=0.04)
