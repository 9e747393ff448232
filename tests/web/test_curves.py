"""Learning curves of one metric: thinned, and read again only where something changed."""

import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.records import Claim, MetricReport
from service.operations import Write
from service.store import Store, queries
from service.web import trials
from service.web.trials import Curves
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem

STUDY = "/api/v1/studies/digits"


def shown(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{STUDY}/curves", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def run(lab: Laboratory, claim: Claim, values: list[float], metric: str = "accuracy") -> None:
    """Reports from step 1 on."""
    reports = [MetricReport(step, {metric: value}) for step, value in enumerate(values, 1)]
    assert operations.record(lab.store, [Write(claim.lease, reports=reports)]) == []


def test_a_short_curve_comes_whole_and_without_what_is_not_finite(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first, second = lab.claim(), lab.claim()
    run(lab, first, [0.1, 1 / 3, math.inf, 123456.7, 1e-9])
    run(lab, second, [math.nan])
    lab.report(second, 2, loss=0.5)
    answer = shown(client)
    assert answer["metric"] == "accuracy" and answer["seq"] == client.get(STUDY).json()["seq"] and not answer["more"]
    assert answer["curves"] == [[0, [1, 2, 4, 5], [0.1, 0.33333, 123460.0, 1e-9]]]
    assert shown(client, metric="loss")["curves"] == [[1, [2], [0.5]]]


def test_a_long_curve_keeps_its_ends_and_its_extremes(client: TestClient, lab: Laboratory) -> None:
    lab.study(fixed={"epochs": 1000, "image_size": 64})
    values = [math.sin(step / 7) for step in range(1000)]
    values[123], values[777] = 9.0, -9.0
    run(lab, lab.claim(), values)
    ((_, steps, kept),) = shown(client)["curves"]
    assert len(steps) == len(kept) <= 64 and steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 1000)
    assert dict(zip(steps, kept, strict=True)).items() >= {(124, 9.0), (778, -9.0)}
    assert all(value == pytest.approx(values[step - 1], rel=1e-4) for step, value in zip(steps, kept, strict=True))


def test_only_curves_of_trials_that_changed_come_the_next_time(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first, second = lab.claim(), lab.claim()
    run(lab, first, [0.1])
    run(lab, second, [0.2])
    seen = shown(client)["seq"]
    assert shown(client, after=seen)["curves"] == []
    run(lab, second, [0.2, 0.3])
    assert shown(client, after=seen)["curves"] == [[1, [1, 2], [0.2, 0.3]]]
    assert shown(client)["curves"] == [[0, [1], [0.1]], [1, [1, 2], [0.2, 0.3]]]


def test_a_curve_that_was_given_up_is_told_to_those_who_may_know_it(client: TestClient, lab: Laboratory) -> None:
    """The worker is lost, and the next attempt begins anew: what was reported is superseded."""
    lab.study()
    claim = lab.claim()
    run(lab, claim, [0.1, 0.2])
    seen = shown(client)["seq"]
    assert operations.record(lab.store, [Write(claim.lease, outcome=operations.Released())]) == []
    lab.claim()
    assert shown(client, after=seen)["curves"] == [[0, [], []]]
    assert shown(client)["curves"] == []


def test_too_many_curves_come_in_parts(client: TestClient, lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.study()
    for claim in reversed(lab.claims_from("digits", 7)):
        run(lab, claim, [0.1])
    monkeypatch.setattr(trials, "MOST_CURVES", 3)
    numbers, after, more = list[int](), 0, True
    while more:
        answer = shown(client, after=after)
        numbers += [number for number, *_ in answer["curves"]]
        after, more = answer["seq"], answer["more"]
    assert numbers == [6, 5, 4, 3, 2, 1, 0] and after == client.get(STUDY).json()["seq"]


def test_a_metric_that_nobody_reported_is_a_fault_that_names_those_that_were(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    assert shown(client, metric="anything")["curves"] == []  # nobody knows yet
    lab.finish(lab.claim(), 0.9)
    problem = assert_problem(client.get(f"{STUDY}/curves?metric=speed"), 422, "validation")
    assert problem["errors"][0]["pointer"] == "#/query/metric" and "accuracy, loss" in problem["errors"][0]["detail"]
    assert_problem(client.get("/api/v1/studies/nobody/curves"), 404, "study-not-found")
    assert_problem(client.get(f"{STUDY}/curves", params={"metric": "x" * 65}), 422, "validation")


def test_the_curves_asked_for_longest_ago_are_forgotten(store: Store, lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        lab.study(name)
        run(lab, lab.claim_from(name), [0.1] * 60)
    book = Curves(store)
    bodies = {name: book.answer(store.read(queries.find_study, name), "accuracy", 0) for name in ("one", "two")}
    whole = book.size
    monkeypatch.setattr(trials, "MOST_BYTES", whole)
    book.answer(store.read(queries.find_study, "three"), "accuracy", 0)
    assert book.size == whole
    assert book.answer(store.read(queries.find_study, "one"), "accuracy", 0) == bodies["one"]
