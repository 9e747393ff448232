"""The table of a study's trials: all of them in one small answer, then only those that changed."""

import math
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.records import MetricReport
from service.operations import Write
from service.web import trials
from tests.operations.driving import claim_trials, searches_of
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem
from trainer.protocol import Pace, Reuse

STUDY = "/api/v1/studies/digits"


def shown(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{STUDY}/table", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def trials_of(answer: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The trials as the page reads them, by number."""
    found = [dict(zip(answer["columns"], values, strict=True)) for values in answer["trials"]]
    for trial in found:
        for name in ("params", "metrics"):
            trial[name] = dict(zip(answer[name], trial[name], strict=True))
    return {trial["number"]: trial for trial in found}


def test_each_trial_stands_there_as_the_interface_tells_it_elsewhere(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.finish(lab.claim(), 0.9)
    claim = lab.claim()
    lab.report(claim, 2, accuracy=0.123456789, loss=math.nan)
    lab.fail(lab.claim())
    operations.queue_trial(lab.store, lab.id_of("digits"), {"lr": 0.01, "optimizer": "sgd"})
    answer = shown(client)
    whole = client.get(STUDY).json()
    assert (
        whole.pop("facts")
        and whole.pop("sizes") == {"train": 60, "validation": 20, "test": 20}
        and whole.pop("notes") == []
        and whole.pop("majority") is None
        and answer["study"] == whole
        and not answer["more"]
    )
    assert answer["seq"] == answer["study"]["seq"] and answer["metrics"] == ["accuracy", "loss"]
    found = trials_of(answer)
    assert found.keys() == {0, 1, 2, 3}
    for number, trial in found.items():
        reported = client.get(f"{STUDY}/trials/{number}").json()
        same = ("state", "step", "attempt", "source", "duplicate_of", "reason", "detail", "worker")
        assert {name: trial[name] for name in same} == {name: reported[name] for name in same}
        assert trial["params"]["lr"] == pytest.approx(reported["params"]["lr"], rel=1e-9)
        assert trial["params"]["optimizer"] == reported["params"]["optimizer"]
        assert trial["value"] == reported["value"]
    assert found[1]["metrics"] == {"accuracy": 0.12346, "loss": None}
    assert found[3]["metrics"] == {"accuracy": None, "loss": None} and found[3]["started_at"] is None
    assert found[0]["queued_at"] <= found[0]["finished_at"]


def test_only_the_trials_that_changed_come_the_next_time(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first, _ = lab.claim(), lab.claim()
    seen = shown(client)["seq"]
    assert shown(client, after=seen)["trials"] == []
    lab.finish(first, 0.9)
    changed = shown(client, after=seen)
    assert [trial["state"] for trial in trials_of(changed).values()] == ["complete"]
    assert changed["study"]["counts"]["complete"] == 1


def test_a_table_that_is_too_long_comes_in_parts(client: TestClient, lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.study()
    lab.claims_from("digits", 7)
    monkeypatch.setattr(trials, "MOST_ROWS", 3)
    numbers, after, more = list[int](), 0, True
    while more:
        answer = shown(client, after=after)
        numbers += trials_of(answer)
        after, more = answer["seq"], answer["more"]
    assert sorted(numbers) == list(range(7)) and after == client.get(STUDY).json()["seq"]


def test_what_trials_were_spared_sums_up_to_what_the_study_was(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.searches = searches_of(choices=1)  # repeats one point, which the study's own sampler would not
    pace = Pace(samples_per_second=1234.5678, seconds_left=1.0, memory=1, seconds={"forward": 1.0}, saved_seconds=120.0)
    claim = lab.claim()
    lab.tell(claim, 1, pace, Reuse(pixels="cached", depth=9, place="disk", lanes=4))
    lab.finish(claim, 0.9)
    claim_trials(lab.store, lab.searches, "worker-1", 5)  # answered at once, as duplicates
    answer = shown(client)
    found, saved = trials_of(answer), answer["study"]["saved"]
    assert found[0]["spared_seconds"] == saved["features_seconds"] == 30.0
    assert found[0]["samples_per_second"] == 1234.6
    duplicates = [trial for trial in found.values() if trial["duplicate_of"] == 0]
    assert duplicates and saved["duplicates_seconds"] > 0
    assert sum(trial["spared_seconds"] for trial in duplicates) == pytest.approx(saved["duplicates_seconds"])
    assert {trial["samples_per_second"] for trial in duplicates} == {None}


def test_the_second_who_asks_is_told_of_what_was_written_between(client: TestClient, lab: Laboratory) -> None:
    """Answers are kept by the last event: none is told when there is a later one."""
    lab.study()
    claim = lab.claim()
    for step in (1, 2, 3):
        write = Write(claim.lease, reports=[MetricReport(step, {"accuracy": step / 10})])
        assert operations.record(lab.store, [write]) == []
        assert [shown(client)["trials"][0][3] for _ in range(2)] == [step, step]


def test_an_answer_is_compressed_for_those_who_take_it(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.claims_from("digits", 20)
    plain = client.get(f"{STUDY}/table", headers={"accept-encoding": "identity"})
    small = client.get(f"{STUDY}/table", headers={"accept-encoding": "gzip"})
    assert plain.json() == small.json() and "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip" and int(small.headers["content-length"]) < len(plain.content) / 3
    assert {answer.headers["vary"] for answer in (plain, small)} == {"Accept-Encoding"}


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=99999999999999999999"])
def test_a_wrong_query_is_a_fault(client: TestClient, lab: Laboratory, query: str) -> None:
    lab.study()
    assert_problem(client.get(f"{STUDY}/table?{query}"), 422, "validation")


def test_a_study_that_is_not_there_has_no_table(client: TestClient) -> None:
    assert_problem(client.get(f"{STUDY}/table"), 404, "study-not-found")
