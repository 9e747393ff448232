"""Claims over REST, on each database: a program outside of Thawline claims trials, reports on them and ends them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.search.study import StudySearch
from service.settings import Settings
from service.store import Store, open_store, queries
from service.store.schema import attempt, idempotency
from service.web.app import create_app
from tests.operations.driving import FACTS, checkpoint, report
from tests.operations.test_scripts import STUDY as SCRIPT
from tests.web.laboratory import HERE, study_document
from tests.web.problem import assert_problem

API = "/api/v1"
CLIENTS, TRIALS = 16, 48
MEDIAN = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
REPORT = {"per_class_recall": {"cat": 1.0, "dog": 0.5}, "confusion_matrix": [[10, 0], [5, 5]]}


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url=database_url, writes_per_second=10_000)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with closing(open_store(settings.database_url)) as opened:
        yield opened


@pytest.fixture
def client(store: Store, settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(store, settings), base_url=HERE, follow_redirects=False) as client:
        yield client


@dataclass
class Claims:
    """A study, and a client that claims from it."""

    client: TestClient
    store: Store

    def study(self, name: str = "digits", checked: bool = True, **changes: Any) -> Study:
        study = operations.create_study(self.store, parse_study(study_document(name, **changes)))
        return operations.pass_check(self.store, study.id, FACTS) if checked else study

    def ask(self, study: str = "digits", worker: str = "notebook", **headers: str) -> httpx2.Response:
        return self.client.post(f"{API}/studies/{study}/claims", json={"worker": worker}, headers=headers)

    def claim(self, study: str = "digits", worker: str = "notebook", **headers: str) -> dict[str, Any]:
        answer = self.ask(study, worker, **headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def post(self, claim: Mapping[str, Any], verb: str, body: Any = None, **headers: str) -> httpx2.Response:
        own = {"claim-token": claim["token"], **headers}
        return self.client.post(f"{API}/claims/{claim['claim']}/{verb}", json={} if body is None else body, headers=own)

    def report(self, claim: Mapping[str, Any], step: int, accuracy: float | None) -> httpx2.Response:
        return self.post(claim, "report", {"step": step, "metrics": {"accuracy": accuracy}})

    def trial(self, claim: Mapping[str, Any]) -> Trial:
        return self.store.read(queries.find_trial, claim["study"], claim["number"])

    def lose(self, claim: Mapping[str, Any]) -> None:
        """Take the trial away, as a reaper does."""
        leases = self.store.read(queries.running_leases)
        of_it = [one for one in leases if (one[0].study, one[0].number) == (claim["study"], claim["number"])]
        assert operations.requeue_lost(self.store, of_it) == 1

    def kinds(self, study: str = "digits") -> list[str]:
        found = self.store.read(queries.find_study, study)
        return [one.kind for one in self.store.read(queries.events_after, found.id, 0)]


@pytest.fixture
def claims(client: TestClient, store: Store) -> Claims:
    return Claims(client, store)


def test_a_trial_is_claimed_reported_and_finished(claims: Claims, settings: Settings) -> None:
    study = claims.study()
    answer = claims.ask()
    claim = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{API}/studies/{study.id}/trials/0")
    expected = {"study": study.id, "number": 0, "attempt": 1, "phase": "search", "metric": "accuracy", "last_step": 3}
    assert expected.items() <= claim.items()
    assert claim["params"].keys() == {"lr", "optimizer"} and claim["fixed"]["epochs"] == 3
    assert (claim["lease_seconds"], claim["heartbeat_seconds"]) == (settings.lease_seconds, settings.heartbeat_seconds)
    assert claim["seed"] == claims.client.get(f"{API}/studies/digits/trials/0").json()["seed"]
    for step, accuracy in ((1, 0.5), (2, 0.7)):
        assert claims.report(claim, step, accuracy).json() == {"step": step, "stop": False, "why": None}
    before = dict(claims.store.read(queries.running_leases))
    seconds = {"lease_seconds": settings.lease_seconds, "heartbeat_seconds": settings.heartbeat_seconds}
    assert claims.post(claim, "heartbeat").json() == {"claim": claim["claim"], **seconds}
    after = dict(claims.store.read(queries.running_leases))
    assert [after[lease] - count for lease, count in before.items()] == [1]
    done = claims.post(claim, "finish", {"metrics": {"accuracy": 0.8}, "report": REPORT, "peak_memory": 5, "train_seconds": 2.5}).json()
    assert (done["state"], done["value"], done["step"], done["worker"]) == ("complete", 0.8, 3, "rest:notebook")
    whole = claims.client.get(f"{API}/studies/digits/trials/0").json()
    assert whole["result"]["confusion_matrix"] == REPORT["confusion_matrix"] and whole["result"]["peak_memory"] == 5
    rows = claims.client.get(f"{API}/studies/digits/trials/0/metrics").json()["rows"]
    assert [row["metrics"]["accuracy"] for row in rows] == [0.5, 0.7, 0.8]
    assert claims.kinds()[-5:] == ["trial_started", *["trial_reported"] * 3, "trial_completed"]


def test_the_last_report_is_the_result_and_pages_show_it(claims: Claims) -> None:
    claims.study(budget={"trials": 1})
    claim = claims.claim()
    claims.report(claim, 1, 0.9)
    done = claims.post(claim, "finish").json()
    assert (done["state"], done["value"], done["step"]) == ("complete", 0.9, 1)
    assert "peak_memory" not in done["result"] and done["result"]["train_seconds"] >= 0
    assert claims.store.read(queries.find_study, "digits").state == "complete"
    for path in ("", "/trials", "/table", "/curves", "/changes", "/pruning", "/confirmation", "/export", "/figures/optimization_history"):
        assert claims.client.get(f"{API}/studies/digits{path}").status_code == 200, path
    for form in ("yaml", "json", "card", "requirements", "python"):
        assert claims.client.get(f"{API}/studies/digits/best", params={"format": form}, headers={"accept": "*/*"}).status_code == 200, form


def test_a_study_whose_data_no_worker_has_checked_can_be_claimed(claims: Claims) -> None:
    claims.study(checked=False, budget={"trials": 1})
    claim = claims.claim()
    claims.report(claim, 1, 0.9)
    assert claims.post(claim, "finish").json()["state"] == "complete"
    assert claims.client.get(f"{API}/studies/digits").json()["state"] == "complete"
    problem = assert_problem(claims.client.get(f"{API}/studies/digits/best"), 404, "no-result")
    assert "No worker has checked the study's data" in problem["detail"]


def test_sixteen_clients_get_each_trial_once(claims: Claims) -> None:
    """I7, I15: no trial goes to two, and all are claimed."""
    study = claims.study(budget={"trials": TRIALS})

    def drain(name: int) -> list[tuple[int, int]]:
        own = []
        while (answer := claims.ask(worker=f"client-{name}")).status_code == 201 or not answer.json()["final"]:
            if (claim := answer.json())["claim"] is not None:
                own.append((claim["number"], claim["attempt"]))
                assert claims.post(claim, "finish", {"metrics": {"accuracy": 0.5}}).status_code == 200
        return own

    with ThreadPoolExecutor(CLIENTS) as pool:
        claimed = Counter(one for own in pool.map(drain, range(CLIENTS)) for one in own)
    assert claimed == {(number, 1): 1 for number in range(TRIALS)}
    trials = claims.store.read(queries.trials, study.id, limit=1_000)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * TRIALS


def test_a_heartbeat_does_not_wait_for_claims_that_wait_for_the_sampler(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    """More claims than the server has threads for requests, while a suggestion takes long."""
    claims.study(budget={"trials": 60})
    held = claims.claim()
    suggest, thinking, may_end = StudySearch.suggest, Event(), Event()

    def slowly(*given: Any, **options: Any) -> Any:
        thinking.set()
        assert may_end.wait(60)
        return suggest(*given, **options)

    monkeypatch.setattr(StudySearch, "suggest", slowly)
    with ThreadPoolExecutor(43) as pool:
        asked = [pool.submit(claims.ask, worker=f"w{number}") for number in range(42)]
        assert thinking.wait(60)
        heartbeat = pool.submit(claims.post, held, "heartbeat")
        try:
            assert heartbeat.result(timeout=30).status_code == 200
        finally:
            may_end.set()
    assert Counter(one.result().status_code for one in asked) == {201: 42}


def test_the_answer_says_why_there_is_no_trial(claims: Claims) -> None:
    study = claims.study(budget={"trials": 2, "parallel": 1})

    def reason(name: str = "notebook") -> tuple[str, bool]:
        answer = claims.ask(worker=name)
        assert (answer.status_code, answer.json()["claim"]) == (200, None)
        assert answer.json()["detail"].endswith(".")
        return answer.json()["reason"], answer.json()["final"]

    claim = claims.claim()
    assert reason() == ("running", False)
    operations.pause_study(claims.store, study.id)
    assert reason() == ("paused", False)
    operations.resume_study(claims.store, study.id)
    assert claims.client.post(f"{API}/workers/rest:notebook/drain").json()["running"] == [{"study": "digits", "number": 0}]
    assert claims.report(claim, 1, 0.5).status_code == 200  # it completes the trial that it has
    assert reason() == ("draining", True)
    assert claims.post(claim, "finish").status_code == 200
    assert reason() == ("draining", True)
    assert claims.store.read(queries.find_worker, "rest:notebook").state == "gone"
    other = claims.claim()  # under the name of a claimant that is gone, so it is another program
    assert claims.store.read(queries.find_worker, "rest:notebook").state == "alive"
    assert claims.post(other, "finish", {"metrics": {"accuracy": 0.1}}).status_code == 200
    assert reason() == ("finished", True)
    assert claims.store.read(queries.find_worker, "rest:notebook").state == "gone"  # it has nothing more to do here
    assert_problem(claims.ask("no-such-study"), 404, "study-not-found")


def test_the_confirmation_of_a_task_with_scores_of_examples_is_left_to_workers(claims: Claims) -> None:
    data = {"path": "/data/digits", "location": "workers", "test": 0.2}
    study = claims.study(budget={"trials": 1}, data=data, confirm={"top": 1, "seeds": 2})
    claim = claims.claim()
    assert claims.post(claim, "finish", {"metrics": {"accuracy": 0.1}}).status_code == 200
    for _ in range(2):
        answer = claims.ask()
        assert (answer.json()["claim"], answer.json()["reason"], answer.json()["final"]) == (None, "confirmation", True)
    assert "thaw worker" in answer.json()["detail"]
    (native,) = operations.claim_together(claims.store, operations.Searches(), "w", 0)
    assert (native.lease.study, native.round) == (study.id, 1)


def test_the_token_is_needed_and_no_other_one_will_do(claims: Claims) -> None:
    """T22: a claim takes its own token alone, which neither the database nor a URL contains."""
    claims.study()
    first, second = claims.claim(), claims.claim(**{"idempotency-key": "once"})
    bodies = {"heartbeat": None, "report": {"step": 1, "metrics": {"accuracy": 0.5}}, "finish": None, "fail": None, "release": None}
    for verb, body in bodies.items():
        address = f"{API}/claims/{first['claim']}/{verb}"
        for token in (second["token"], first["token"][:-1], first["token"].upper(), "", "é"):
            refused = claims.client.post(address, json=body or {}, headers={b"claim-token": token.encode()})
            assert_problem(refused, 403, "claim-token-refused")
        problem = assert_problem(claims.client.post(address, json=body or {}), 422, "validation")
        assert problem["errors"][0]["pointer"] == "#/header/Claim-Token"
        in_url = claims.client.post(f"{address}?claim_token={first['token']}", json=body or {})
        assert_problem(in_url, 400, "key-in-url")
    assert claims.trial(first).state is TrialState.RUNNING and claims.trial(first).step == 0
    with claims.store.reading() as tx:
        stored = [*tx.scalars(select(attempt.c.token_sha256)), *tx.scalars(select(idempotency.c.answer))]
    assert len(stored) == 3 and not any(one["token"] in text for one in (first, second) for text in stored)


def test_a_token_that_was_used_before_is_refused_for_the_next_claim(claims: Claims) -> None:
    """T22: of the trial's last attempt, of a claim that ended well, and of a deleted study."""
    claims.study()
    lost = claims.claim()
    claims.lose(lost)
    again = claims.claim()
    assert (again["number"], again["attempt"]) == (0, 2)
    other = claims.claim()
    assert claims.post(other, "finish", {"metrics": {"accuracy": 0.1}}).status_code == 200
    claims.study("deleted")
    gone = claims.claim("deleted")
    claims.client.delete(f"{API}/studies/deleted")
    for used in (lost, other, gone):
        for verb, body in (("heartbeat", None), ("report", {"step": 1, "metrics": {"accuracy": 0.5}}), ("finish", None)):
            assert_problem(claims.post(again | {"token": used["token"]}, verb, body), 403, "claim-token-refused")
    assert (claims.trial(again).state, claims.trial(again).step) == (TrialState.RUNNING, 0)


@pytest.mark.parametrize("other", ["0" * 16 + "-0-1", "x", "8c5f", "{study}-0-2", "{study}-1-1", "{study}-0-999999999", "{study}--0-1"])
def test_an_unknown_claim_is_not_found(claims: Claims, other: str) -> None:
    claim = (claims.study(), claims.claim())[1]
    there = claim | {"claim": other.format(study=claim["study"])}
    assert_problem(claims.post(there, "heartbeat"), 404, "claim-not-found")


def test_the_attempt_of_a_worker_process_is_no_claim(claims: Claims) -> None:
    study = claims.study()
    (native,) = operations.claim_together(claims.store, operations.Searches(), "w", 0)
    claim = {"claim": f"{study.id}-{native.lease.number}-1", "token": ""}
    assert_problem(claims.post(claim, "finish", {"metrics": {"accuracy": 1}}), 404, "claim-not-found")


def test_a_claim_of_a_deleted_study_is_not_found(claims: Claims) -> None:
    claim = (claims.study(), claims.claim())[1]
    assert claims.client.delete(f"{API}/studies/digits").status_code == 204
    assert_problem(claims.report(claim, 1, 0.5), 404, "claim-not-found")


def test_a_claim_that_was_lost_can_write_nothing(claims: Claims) -> None:
    """I8, I10: after its lease expired, and after another one has the trial, in the queue and at its end."""
    claims.study(budget={"trials": 1})
    stale = claims.claim()
    claims.report(stale, 1, 0.9)
    claims.lose(stale)

    def refused_all() -> None:
        before = claims.trial(stale)
        for verb, body in (("heartbeat", None), ("report", {"step": 2, "metrics": {"accuracy": 0.99}}),
                           ("finish", None), ("fail", None), ("release", None)):  # fmt: skip
            problem = assert_problem(claims.post(stale, verb, body), 409, "lease-lost")
            assert "claim another one" in problem["detail"]
        assert claims.trial(stale) == before

    refused_all()
    fresh = claims.claim(worker="another")
    assert (fresh["number"], fresh["attempt"]) == (0, 2)
    assert fresh["token"] != stale["token"]
    refused_all()
    assert claims.report(fresh, 1, 0.4).status_code == 200  # its first step: the report of the lost attempt is gone
    assert claims.post(fresh, "finish").json()["value"] == 0.4
    refused_all()
    rows = claims.client.get(f"{API}/studies/digits/trials/0/metrics").json()["rows"]
    assert [row["metrics"] for row in rows] == [{"accuracy": 0.4}]


def test_a_trial_with_a_checkpoint_starts_again_for_a_claimant(claims: Claims) -> None:
    """The files are a worker's; steps after 0 are reported anew."""
    study = claims.study(budget={"trials": 1})
    (native,) = operations.claim_together(claims.store, operations.Searches(), "w", 0)
    operations.record(claims.store, [operations.Write(native.lease, [report(1, 0.3), report(2, 0.4)], checkpoint(2))])
    claims.lose({"study": study.id, "number": 0})
    claim = claims.claim()
    assert claims.report(claim, 1, 0.1).json() == {"step": 1, "stop": False, "why": None}
    assert claims.trial(claim).checkpoints == ()
    rows = claims.client.get(f"{API}/studies/digits/trials/0/metrics").json()["rows"]
    assert [row["step"] for row in rows] == [1]


def test_a_lost_trial_of_a_script_starts_again_for_a_claimant(claims: Claims) -> None:
    """A worker's script may resume from its own checkpoints, a claimant has none: its first step is the first one."""
    operations.create_study(claims.store, StudySpec.model_validate(SCRIPT))
    lost = claims.claim("mine")
    for step in (1, 2):
        claims.post(lost, "report", {"step": step, "metrics": {"val/loss": 1 / step}})
    claims.lose(lost)
    claim = claims.claim("mine")
    assert claims.post(claim, "report", {"step": 1, "metrics": {"val/loss": 0.9}}).json() == {"step": 1, "stop": False, "why": None}
    rows = claims.client.get(f"{API}/studies/mine/trials/0/metrics").json()["rows"]
    assert [(row["step"], row["metrics"]) for row in rows] == [(1, {"val/loss": 0.9})]


def test_a_finish_counts_once(claims: Claims) -> None:
    """I17, I18: the same outcome again is a success, another one is refused in words."""
    claims.study()
    claim = claims.claim()
    claims.report(claim, 1, 0.5)
    first = claims.post(claim, "finish", {"metrics": {"accuracy": 0.8}})
    seq = claims.store.read(queries.find_study, "digits").seq
    assert claims.post(claim, "finish", {"metrics": {"accuracy": 0.8}}).json() == first.json()
    assert claims.post(claim, "finish").json() == first.json()
    others = [("finish", {"metrics": {"accuracy": 0.9}}), ("finish", {"step": 3, "metrics": {"accuracy": 0.8}}), ("fail", None),
              ("release", None), ("report", {"step": 3, "metrics": {"accuracy": 0.1}})]  # fmt: skip
    for verb, body in others:
        problem = assert_problem(claims.post(claim, verb, body), 409, "trial-closed")
        assert problem["detail"].startswith("Trial 0 has ended: complete.")
    assert_problem(claims.post(claim, "heartbeat"), 409, "trial-closed")
    assert claims.store.read(queries.find_study, "digits").seq == seq


def test_a_failure_counts_once_and_its_reason_decides_what_follows(claims: Claims) -> None:
    claims.study(limits={"attempts": 2})
    claim = claims.claim()
    for _ in range(2):
        failed = claims.post(claim, "fail", {"reason": "out_of_memory", "detail": "the batch did not fit"}).json()
        assert (failed["state"], failed["reason"], failed["detail"]) == ("failed", "out_of_memory", "the batch did not fit")
    assert_problem(claims.post(claim, "fail"), 409, "trial-closed")
    assert_problem(claims.post(claim, "finish", {"metrics": {"accuracy": 0.8}}), 409, "trial-closed")
    again = claims.claim()
    for _ in range(2):
        assert claims.post(again, "fail", {"reason": "crashed", "detail": "signal 11"}).json()["state"] == "queued"
    retried = claims.claim()
    assert (retried["number"], retried["attempt"]) == (again["number"], 2)
    assert claims.post(retried, "fail", {"reason": "crashed", "detail": "signal 11"}).json()["state"] == "failed"


def test_a_released_trial_is_claimed_again_and_the_attempt_does_not_count(claims: Claims) -> None:
    claims.study(limits={"attempts": 1})
    for number in range(1, 4):
        claim = claims.claim()
        assert (claim["number"], claim["attempt"]) == (0, number)
        for _ in range(2):
            assert claims.post(claim, "release", {"detail": "the job's time is over"}).json()["state"] == "queued"
        assert_problem(claims.report(claim, 1, 0.5), 409, "lease-lost")
    attempts = claims.client.get(f"{API}/studies/digits/trials/0").json()["attempts"]
    assert [(one["ending"], one["detail"]) for one in attempts] == [("released", "the job's time is over")] * 3


def test_the_pruner_ends_a_trial_as_it_does_for_a_worker(claims: Claims) -> None:
    claims.study(pruner=MEDIAN)
    good, bad = claims.claim(), claims.claim()
    assert claims.report(good, 1, 0.9).json()["stop"] is False
    claims.post(good, "finish")
    stopped = claims.report(bad, 1, 0.1).json()
    assert stopped["stop"] is True and "median" in stopped["why"]
    assert claims.trial(bad).state is TrialState.PRUNED
    assert claims.trial(bad).result["evidence"]
    assert claims.report(bad, 1, 0.1).json() == stopped  # the answer was lost
    assert claims.report(bad, 2, 0.2).json() == stopped  # a report was under way
    problem = assert_problem(claims.post(bad, "finish"), 409, "trial-closed")
    assert problem["detail"].startswith("Trial 1 has ended: pruned")
    assert claims.kinds()[-3:] == ["trial_completed", "trial_reported", "trial_pruned"]


def test_a_cancelled_trial_is_named_as_such(claims: Claims) -> None:
    study = claims.study()
    claim, other = claims.claim(), claims.claim()
    assert claims.client.post(f"{API}/studies/digits/trials/0/cancel").status_code == 200
    for verb in ("heartbeat", "finish", "fail", "release"):
        assert_problem(claims.post(claim, verb), 409, "trial-cancelled")
    assert_problem(claims.report(claim, 1, 0.5), 409, "trial-cancelled")
    assert claims.post(other, "heartbeat").status_code == 200
    operations.stop_study(claims.store, study.id)
    assert_problem(claims.post(other, "heartbeat"), 409, "trial-cancelled")


def test_steps_increase_and_a_repeated_report_changes_nothing(claims: Claims) -> None:
    claims.study()
    claim = claims.claim()
    assert claims.report(claim, 2, 0.5).status_code == 200
    seq = claims.trial(claim).changed
    assert claims.report(claim, 2, 0.5).json() == {"step": 2, "stop": False, "why": None}
    for step, accuracy in ((2, 0.6), (1, 0.5)):
        problem = assert_problem(claims.report(claim, step, accuracy), 409, "step-not-new")
        assert f"Step {step} cannot be reported: the last step was 2" in problem["detail"]
    assert_problem(claims.post(claim, "finish", {"step": 1, "metrics": {"accuracy": 0.5}}), 409, "step-not-new")
    assert claims.trial(claim).changed == seq


@pytest.mark.parametrize(
    ("verb", "body", "pointer"),
    [
        ("report", {}, "#/step"),
        ("report", {"step": 1, "metrics": {}}, "#/metrics"),
        ("report", {"step": 0, "metrics": {"accuracy": 0.5}}, "#/step"),
        ("report", {"step": 1.5, "metrics": {"accuracy": 0.5}}, "#/step"),
        ("report", {"step": 4, "metrics": {"accuracy": 0.5}}, "#/step"),
        ("report", {"step": 1, "metrics": {"accurcy": 0.5}}, "#/metrics/accurcy"),
        ("report", {"step": 1, "metrics": {"accuracy": 1.5}}, "#/metrics/accuracy"),
        ("report", {"step": 1, "metrics": {"lr": 1e31}}, "#/metrics/lr"),
        ("report", {"step": 1, "metrics": {"accuracy": "0.5"}}, "#/metrics/accuracy"),
        ("report", {"step": 1, "metrics": {"accuracy": True}}, "#/metrics/accuracy"),
        ("report", {"step": 1, "metrics": {"accuracy": 0.5}, "token": "x"}, "#/token"),
        ("report", [1], "#"),
        ("finish", {"report": {"per_class_recall": {}}}, "#/report/confusion_matrix"),
        ("finish", {"test": {"metrics": {}}}, "#/test"),
        ("finish", {"train_seconds": -1}, "#/train_seconds"),
        ("fail", {"reason": "lost"}, "#/reason"),
        ("fail", {"reason": "bad_data"}, "#/reason"),
        ("fail", {"detail": "a\nb"}, "#/detail"),
        ("release", {"why": "x"}, "#/why"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(claims: Claims, verb: str, body: Any, pointer: str) -> None:
    claims.study()
    claim = claims.claim()
    problem = assert_problem(claims.post(claim, verb, body), 422, "validation")
    assert problem["errors"][0]["pointer"] == pointer, problem
    assert all("; " in fault["detail"] for fault in problem["errors"]), "a fault has a remedy"
    assert claims.trial(claim).state is TrialState.RUNNING and claims.trial(claim).step == 0


@pytest.mark.parametrize("name", ["", "a b", "-x", "é", "x" * 101, "a/b", 7])
def test_a_claimant_has_a_plain_name(claims: Claims, name: object) -> None:
    claims.study()
    answer = claims.client.post(f"{API}/studies/digits/claims", json={"worker": name})
    assert assert_problem(answer, 422, "validation")["errors"][0]["pointer"] == "#/worker"


def test_a_claim_needs_no_body(claims: Claims) -> None:
    claims.study()
    answer = claims.client.post(f"{API}/studies/digits/claims")
    assert answer.status_code == 201
    claim = answer.json()
    assert claims.client.post(f"{API}/claims/{claim['claim']}/heartbeat", headers={"claim-token": claim["token"]}).status_code == 200
    assert claims.trial(claim).worker == "rest:claimant"


def test_a_value_that_is_not_finite_ends_as_diverged(claims: Claims) -> None:
    claims.study()
    claim = claims.claim()
    assert claims.report(claim, 1, None).status_code == 200
    for _ in range(2):
        done = claims.post(claim, "finish").json()
        assert (done["state"], done["reason"], done["value"]) == ("failed", "diverged", None)


def test_a_finish_without_the_objective_is_a_failure(claims: Claims) -> None:
    claims.study()
    claim = claims.claim()
    for _ in range(2):
        done = claims.post(claim, "finish", {"metrics": {"loss": 0.5}}).json()
        assert done["state"] == "failed" and "without a value for accuracy" in done["detail"]


def test_a_repeated_claim_is_the_first_one(claims: Claims) -> None:
    """I27: with its key, after a restart of the server too; the token is derived again, since it is not stored."""
    claims.study()
    first = claims.claim(**{"idempotency-key": "once"})
    assert claims.claim(**{"idempotency-key": "once"}) == first
    with TestClient(create_app(claims.store, claims.client.app.state.settings), base_url=HERE) as restarted:  # type: ignore[attr-defined]
        again = Claims(restarted, claims.store)
        assert again.claim(**{"idempotency-key": "once"}) == first
        assert again.report(first, 1, 0.5).status_code == 200
    assert claims.claim(**{"idempotency-key": "another"})["number"] == 1
    assert_problem(claims.ask(worker="other", **{"idempotency-key": "once"}), 422, "idempotency-key-reused")
    assert [trial.attempt for trial in claims.store.read(queries.trials, first["study"])] == [1, 1]


def test_many_with_one_key_get_one_claim(claims: Claims) -> None:
    claims.study()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: claims.claim(**{"idempotency-key": "once"}), range(8)))
    assert all(one == found[0] for one in found)
    assert claims.store.read(queries.find_study, "digits").created == 1


def test_a_claim_of_nothing_leaves_its_key_free(claims: Claims) -> None:
    study = claims.study(budget={"trials": 1})
    operations.pause_study(claims.store, study.id)
    assert claims.ask(**{"idempotency-key": "once"}).json()["reason"] == "paused"
    operations.resume_study(claims.store, study.id)
    assert claims.claim(**{"idempotency-key": "once"})["number"] == 0


def test_a_duplicate_gets_its_result_and_the_claim_the_next_trial(claims: Claims) -> None:
    space = {"optimizer": {"type": "categorical", "choices": ["sgd", "adam"]}}
    claims.study(search_space=space, budget={"trials": 6}, sampler={"name": "random", "seed": 0})
    seen = []
    while (answer := claims.ask()).status_code == 201:
        seen.append(answer.json()["params"]["optimizer"])
        claims.post(answer.json(), "finish", {"metrics": {"accuracy": 0.5}})
    assert sorted(seen) == ["adam", "sgd"] and answer.json()["reason"] == "finished"


def test_a_claimant_is_among_the_workers(claims: Claims) -> None:
    claims.study()
    claim = claims.claim(worker="slurm-17")
    (worker,) = claims.client.get(f"{API}/workers").json()["workers"]
    assert (worker["id"], worker["state"], worker["slots"], worker["devices"]) == ("rest:slurm-17", "alive", 1, ["rest"])
    assert worker["running"] == [{"study": "digits", "number": claim["number"]}]
    assert worker["silent_seconds"] < 60


@pytest.fixture
def read_only(store: Store, settings: Settings) -> Iterator[Callable[[str], httpx2.Response]]:
    with (
        closing(open_store(settings.database_url, read_only=True)) as opened,
        TestClient(create_app(opened, settings), base_url=HERE) as one,
    ):
        yield lambda path: one.post(f"{API}{path}", headers={"claim-token": "x"})


def test_a_dashboard_gives_no_claims(claims: Claims, read_only: Callable[[str], httpx2.Response]) -> None:
    claim = (claims.study(), claims.claim())[1]
    assert_problem(read_only("/studies/digits/claims"), 403, "read-only")
    assert_problem(read_only(f"/claims/{claim['claim']}/finish"), 403, "read-only")
