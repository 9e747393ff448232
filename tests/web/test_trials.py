"""Trials over REST."""

import math
from collections.abc import Sequence

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.records import MetricReport
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem
from trainer.protocol import Checkpoint

STUDY = "/api/v1/studies/digits"
TRIALS = f"{STUDY}/trials"
FIELDS = ["number", "state", "params", "value", "metrics", "step", "attempt", "reason", "worker", "queued_at", "started_at", "finished_at"]
EXTRAS = ["duplicate_of", "source", "confirms", "round", "detail", "seed", "result", "reuse", "pace"]

GOOD = {"lr": 0.01, "optimizer": "adam"}


def test_a_trial_has_the_fields_that_were_promised(client: TestClient, lab: Laboratory) -> None:
    study = lab.study()
    claim = lab.claim()
    lab.finish(claim, 0.9)
    trial = client.get(f"{TRIALS}/0").json()
    assert list(trial) == [*FIELDS, *EXTRAS, "attempts", "checkpoints"]
    [attempt] = trial["attempts"]
    assert (attempt["attempt"], attempt["worker"], attempt["resumed"]) == (1, "worker-1", 0)
    assert (attempt["ending"], attempt["step"]) == ("complete", 3) and attempt["ended_at"] == trial["finished_at"]
    assert trial["result"].pop("confusion_matrix") == [[10, 0], [5, 5]] and trial["result"].pop("per_class_recall")
    [listed] = client.get(TRIALS).json()["trials"]
    assert listed == {name: value for name, value in trial.items() if name not in ("attempts", "checkpoints")}, (
        "a list has neither histories nor matrices: they are long"
    )
    assert trial["state"] == "complete" and trial["value"] == 0.9 and trial["step"] == 3 and trial["attempt"] == 1
    assert trial["params"] == dict(claim.params)
    assert trial["metrics"] == {"accuracy": 0.9, "loss": pytest.approx(0.1)}
    assert trial["seed"] == study.spec.seed_of(0)
    assert trial["started_at"].endswith("Z") and trial["finished_at"] >= trial["started_at"] >= trial["queued_at"]


def test_a_trial_names_the_checkpoints_that_are_kept_and_not_where_they_lie(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    for step in (1, 2, 3):
        checkpoint = Checkpoint(step=step, path=f"/home/someone/{step}.safetensors", sha256=f"{step:064x}", size=1000 + step)
        report = MetricReport(step, {"accuracy": 0.5 + step / 10})
        assert operations.record(lab.store, [operations.Write(claim.lease, reports=[report], checkpoint=checkpoint)]) == []
    files = client.get(f"{TRIALS}/0").json()["checkpoints"]
    assert files == [{"step": step, "size": 1000 + step, "sha256": f"{step:064x}"} for step in (3, 2)]


def test_a_failed_trial_says_why(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.fail(lab.claim())
    trial = client.get(f"{TRIALS}/0").json()
    assert (trial["state"], trial["reason"], trial["detail"], trial["value"]) == ("failed", "out_of_memory", "the batch did not fit", None)


def test_numbers_that_are_not_finite_are_null(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    lab.report(claim, 1, accuracy=0.5, loss=math.inf)
    lab.report(claim, 2, accuracy=math.nan, loss=-math.inf)
    assert client.get(f"{TRIALS}/0").json()["metrics"] == {"accuracy": None, "loss": None}
    rows = [{"step": 1, "metrics": {"accuracy": 0.5, "loss": None}}, {"step": 2, "metrics": {"accuracy": None, "loss": None}}]
    assert client.get(f"{TRIALS}/0/metrics").json() == {"number": 0, "rows": rows}


def filled(lab: Laboratory) -> None:
    """Trials 0 to 5: accuracy 0.5, failed, 0.9, 0.7, 0.9, running."""
    lab.study()
    for accuracy in (0.5, None, 0.9, 0.7, 0.9):
        claim = lab.claim()
        lab.fail(claim) if accuracy is None else lab.finish(claim, accuracy)
    lab.claim()


def pages(client: TestClient, sort: str = "number", states: Sequence[str] = ()) -> list[int]:
    numbers: list[int] = []
    after = None
    while True:
        query = "&".join(
            ["limit=2", f"sort={sort}", *(f"state={state}" for state in states), *([] if after is None else [f"after={after}"])]
        )
        page = client.get(f"{TRIALS}?{query}").json()
        assert len(page["trials"]) <= 2
        numbers += [trial["number"] for trial in page["trials"]]
        if (after := page["next"]) is None:
            return numbers


@pytest.mark.parametrize(
    ("sort", "numbers"),
    [("number", [0, 1, 2, 3, 4, 5]), ("-number", [5, 4, 3, 2, 1, 0]), ("value", [0, 3, 2, 4, 1, 5]), ("-value", [2, 4, 3, 0, 1, 5])],
)
def test_pages_in_any_order_hold_every_trial_once(client: TestClient, lab: Laboratory, sort: str, numbers: list[int]) -> None:
    filled(lab)
    assert pages(client, sort=sort) == numbers


def test_pages_hold_only_the_states_that_were_asked_for(client: TestClient, lab: Laboratory) -> None:
    filled(lab)
    assert pages(client, states=["complete"]) == [0, 2, 3, 4]
    assert pages(client, states=["failed", "running"]) == [1, 5]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=done", "state"),
        ("sort=params", "sort"),
        ("sort=--value", "sort"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("after=99", "after"),
        ("after=-1", "after"),
        ("after=x", "after"),
        (f"after={'9' * 5000}", "after"),
    ],
)
def test_a_wrong_query_is_a_fault(client: TestClient, lab: Laboratory, query: str, parameter: str) -> None:
    lab.study()
    problem = assert_problem(client.get(f"{TRIALS}?{query}"), 422, "validation")
    assert problem["errors"][0]["pointer"].startswith(f"#/query/{parameter}")


@pytest.mark.parametrize("number", ["1", "2147483648", "9" * 300, "-1"])
def test_a_trial_that_is_not_there_is_not_found(client: TestClient, lab: Laboratory, number: str) -> None:
    lab.study()
    lab.claim()
    for call in ("", "/metrics", "/log"):
        assert_problem(client.get(f"{TRIALS}/{number}{call}"), 404, "trial-not-found")
    assert_problem(client.post(f"{TRIALS}/{number}/cancel"), 404, "trial-not-found")


def test_a_trial_with_given_parameters_is_queued_and_claimed_next(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    params = {"lr": 0.01, "optimizer": "adam"}
    answer = client.post(TRIALS, json={"params": params})
    assert answer.status_code == 201
    assert client.get(answer.headers["location"]).json() == {**answer.json(), "attempts": [], "checkpoints": []}
    assert (answer.json()["state"], answer.json()["source"], answer.json()["params"]) == ("queued", "user", params)
    assert dict(lab.claim().params) == params


def test_a_trial_may_leave_parameters_to_the_sampler(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    answer = client.post(TRIALS, json={"params": {"lr": 0.01}})
    assert (answer.status_code, answer.json()["params"]) == (201, {"lr": 0.01})
    claim = lab.claim()
    assert client.get(answer.headers["location"]).json()["params"] == dict(claim.params)
    assert claim.params["lr"] == 0.01 and claim.params["optimizer"] in ("sgd", "adam")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"params": {"lr": 1.0, "optimizer": "sgd"}}, "#/params/lr"),
        ({"params": {"lr": 0.01, "optimizer": "rmsprop"}}, "#/params/optimizer"),
        ({"params": {}}, "#/params"),
        ({"params": {"lr": 0.01, "optimizer": "sgd", "x": 1}}, "#/params/x"),
        ({"params": []}, "#/params"),
        ({}, "#/params"),
        ({"params": {}, "number": 7}, "#/number"),
        ([], "#"),
    ],
)
def test_parameters_outside_the_search_space_are_refused(client: TestClient, lab: Laboratory, body: object, pointer: str) -> None:
    lab.study()
    problem = assert_problem(client.post(TRIALS, json=body), 422, "validation")
    assert pointer in [fault["pointer"] for fault in problem["errors"]]
    assert client.get(TRIALS).json()["trials"] == []


def test_many_trials_are_queued_in_the_order_of_the_request(client: TestClient, lab: Laboratory) -> None:
    lab.study(budget={"trials": 1000})
    wanted = [{"lr": 0.01 + index / 100_000, "optimizer": "adam"} for index in range(1000)]
    answer = client.post(TRIALS, json={"trials": wanted}, headers={"idempotency-key": "many"})
    assert answer.status_code == 201 and answer.headers["location"] == f"/api/v1/studies/{lab.id_of('digits')}/trials"
    queued = answer.json()["trials"]
    assert [trial["number"] for trial in queued] == list(range(1000))
    assert [trial["params"] for trial in queued] == wanted
    assert {(trial["state"], trial["source"]) for trial in queued} == {("queued", "user")}
    assert client.get(f"{TRIALS}/999").json() == {**queued[999], "attempts": [], "checkpoints": []}
    again = client.post(TRIALS, json={"trials": wanted}, headers={"idempotency-key": "many"})
    assert (again.status_code, again.json()) == (201, answer.json())
    assert_problem(client.post(TRIALS, json={"trials": wanted[:1]}), 409, "budget-spent")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"trials": [GOOD, {"lr": 1.0, "optimizer": "sgd"}, GOOD, {}]}, ["#/trials/1/lr", "#/trials/3"]),
        ({"trials": [GOOD, 7]}, ["#/trials/1"]),
        ({"trials": []}, ["#/trials"]),
        ({"trials": [GOOD] * 1001}, ["#/trials"]),
        ({"trials": GOOD}, ["#/trials"]),
        ({"trials": [GOOD], "params": GOOD}, ["#/trials"]),
    ],
    ids=["outside", "number", "none", "too many", "one", "both"],
)
def test_of_many_trials_with_a_fault_none_is_queued(client: TestClient, lab: Laboratory, body: object, pointers: list[str]) -> None:
    lab.study(budget={"trials": 5000})
    problem = assert_problem(client.post(TRIALS, json=body), 422, "validation")
    assert [fault["pointer"] for fault in problem["errors"]] == pointers
    assert client.get(TRIALS).json()["trials"] == []


def test_more_trials_than_the_budget_has_room_for_are_refused_together(client: TestClient, lab: Laboratory) -> None:
    lab.study(budget={"trials": 2})
    assert_problem(client.post(TRIALS, json={"trials": [GOOD, GOOD, GOOD]}), 409, "budget-spent")
    assert client.get(TRIALS).json()["trials"] == []


def test_a_repeated_key_queues_one_trial(client: TestClient, lab: Laboratory) -> None:
    lab.study(budget={"trials": 1})
    request = {"json": {"params": {"lr": 0.01, "optimizer": "adam"}}, "headers": {"idempotency-key": "k"}}
    first, second = client.post(TRIALS, **request), client.post(TRIALS, **request)  # type: ignore[arg-type]
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert_problem(client.post(TRIALS, json=request["json"]), 409, "budget-spent")


def test_a_trial_is_cancelled_once(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lab.claim()
    assert client.post(f"{TRIALS}/0/cancel").json()["state"] == "cancelled"
    assert_problem(client.post(f"{TRIALS}/0/cancel"), 409, "trial-closed")


def test_no_trial_is_queued_in_a_study_that_has_ended(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    client.post(f"{STUDY}/stop")
    assert_problem(client.post(TRIALS, json={"params": {"lr": 0.01, "optimizer": "adam"}}), 409, "study-closed")
