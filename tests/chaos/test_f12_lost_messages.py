"""F12: requests are lost before they arrive, answers after everything was committed, and whoever asked asks again."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import httpx2
import pytest

from service import operations
from service.client import Client, Refused
from service.domain.errors import StudyNotFound
from service.domain.parsing import parse_study
from service.domain.records import Study, Worker
from service.domain.states import StudyState, TrialState
from service.store import queries
from service.store.unit_of_work import locked
from service.study_io.export import StudyLines, study_document
from service.web.app import create_app
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.faults import ambiguous, lossy
from tests.chaos.lab import LONG, Lab

LEASE = {"lease_seconds": 600.0, "heartbeat_seconds": 60.0}  # nobody renews the claims of a story
ROUNDS = 10 if LONG else 1
AT_ONCE = 8  # requests with one key
TRIALS = 100 if LONG else 20
TRIES = 20
SAFE = {"get", "head", "options"}
OF_ITS_OWN = re.compile(
    r'"(id|claim|token|study|train_seconds|created_at|queued_at|started_at|finished_at|seen_at|silent_seconds|at)": ?("[^"]*"|[0-9.e+]+)'
)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(**LEASE)


@dataclass(frozen=True)
class Request:
    """One that changes something. `{study}` in its path and body is the story's own study."""

    route: str  # as the OpenAPI document has it
    body: Any = None
    status: int = 200
    number: int = 0  # of the trial
    other: str = ""  # the end of the name of another study
    query: str = ""

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    def path(self, study: str, claim: str) -> str:
        names = {"study": study + self.other, "number": self.number, "worker": study, "claim": claim}
        return (self.route.partition(" ")[2] + self.query).format(**names)


def document(name: str) -> dict[str, Any]:
    return {
        "name": name, "data": {"path": "/data", "location": "workers"}, "model": {"name": "squeezenet1_1"},
        "fixed": {"epochs": 3, "image_size": 32}, "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0}},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 10},
    }  # fmt: skip


def luggage() -> str:
    """A study that has travelled, before its first trial."""
    study = Study(
        id="0" * 16, name="luggage", state=StudyState.STOPPED, reason=None, spec=parse_study(document("luggage")), facts=None,
        created=0, seq=0, created_at=1.0, started_at=None, finished_at=2.0,
    )  # fmt: skip
    lines = StudyLines()
    return (lines.line(study_document(study)) + lines.end()).decode()


STUDIES, CLAIMS = "/api/v1/studies", "/api/v1/claims/{claim}"
A_CLAIM = Request(f"POST {STUDIES}/{{study}}/claims", status=201)
ASKING = {"POST /api/v1/study-check"}  # with a body, and without an effect
PASSING = "-passing"  # the study that is deleted in the end
STORY = (
    Request(f"POST {STUDIES}", document("{study}"), 201),
    Request(f"POST {STUDIES}/{{study}}/trials", {"params": {"lr": 0.1}}, 201),
    Request(f"POST {STUDIES}/{{study}}/trials", {"trials": [{"lr": 0.2}, {"lr": 0.3}]}, 201),
    Request(f"POST {STUDIES}/{{study}}/pause"),
    Request(f"POST {STUDIES}/{{study}}/trials/{{number}}/cancel", number=1),
    Request(f"POST {STUDIES}/{{study}}/resume"),
    Request(f"PATCH {STUDIES}/{{study}}", {"add": {"trials": 2}}),
    Request(f"POST {STUDIES}/{{study}}/claims", {"worker": "notebook"}, 201),
    Request(f"POST {CLAIMS}/report", {"step": 1, "metrics": {"accuracy": 0.5}}),
    Request(f"POST {CLAIMS}/heartbeat"),
    Request(f"POST {CLAIMS}/finish", {"metrics": {"accuracy": 0.75}}),
    Request(f"POST {STUDIES}/{{study}}/claims", {"worker": "notebook"}, 201),
    Request(f"POST {CLAIMS}/fail", {"reason": "out_of_memory", "detail": "the batch did not fit"}),
    Request(f"POST {STUDIES}/{{study}}/claims", {"worker": "notebook"}, 201),
    Request(f"POST {CLAIMS}/release", {"detail": "the job's time is over"}),
    Request(f"POST {STUDIES}", document("{study}" + PASSING), 201, other=PASSING),
    Request(f"POST {STUDIES}/{{study}}/stop", other=PASSING),
    Request(f"POST {STUDIES}/{{study}}/objective", {"metric": "f1"}, other=PASSING),
    Request(f"DELETE {STUDIES}/{{study}}", status=204, other=PASSING),
    Request(f"POST {STUDIES}/{{study}}/pause"),
    Request(f"POST {STUDIES}/import", luggage(), 201, query="?name={study}-imported"),
    Request("POST /api/v1/workers/{worker}/drain"),  # one of the study's name
)
"""Every route that changes something, each at least once; one after the other they leave a state to check. A claim's calls are about
the last one."""

NO_CLAIM: Mapping[str, str] = MappingProxyType({})

Sender = Callable[[Lab, str, dict[str, Any]], tuple[int, str]]


def test_the_story_asks_every_route_that_changes_something(lab: Lab) -> None:
    """So that a new one without the property is missed here."""
    paths = create_app(lab.store, lab.settings).openapi()["paths"]
    mutating = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if method not in SAFE}
    assert mutating - ASKING == {request.route for request in STORY}


def once(_lab: Lab, server: str, request: dict[str, Any]) -> tuple[int, str]:
    """As on a good day."""
    answer = httpx2.request(url=server + request["path"], **{key: request[key] for key in ("method", "content", "headers")}, timeout=60)
    return answer.status_code, answer.text


def persistently(lab: Lab, server: str, request: dict[str, Any]) -> tuple[int, str]:
    """Again and again, with the same key, until an answer comes."""
    for _ in range(TRIES):
        try:
            return once(lab, server, request)
        except httpx2.TransportError:
            lab.counts["tries lost"] += 1
    raise AssertionError(f"no answer in {TRIES} tries to {request['method']} {request['path']}")


def at_once(lab: Lab, server: str, request: dict[str, Any]) -> tuple[int, str]:
    """By many at the same moment; all get one answer. Who is told that the server is busy comes again."""
    gate = threading.Barrier(AT_ONCE)

    def send() -> tuple[int, str]:
        gate.wait(60)
        while (answer := once(lab, server, request))[0] == httpx2.codes.SERVICE_UNAVAILABLE:
            time.sleep(0.05)
        return answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = {future.result() for future in [pool.submit(send) for _ in range(AT_ONCE)]}
    lab.counts["repetitions at once"] += AT_ONCE - 1
    assert len(answers) == 1, f"I27: one key, several answers: {answers}"
    return answers.pop()


@pytest.mark.parametrize(("sender", "faults"), [(persistently, lossy.__name__), (at_once, "")], ids=["lost", "at_once"])
def test_what_is_sent_again_has_one_effect(lab: Lab, sender: Sender, faults: str) -> None:
    """I27: for every route that changes something, the state and the answers are those of a run in which nothing was lost."""
    good, bad = lab.serve(), lab.serve(THAW_CHAOS_FAULTS=faults)
    for number in range(ROUNDS):
        plain, tried = f"plain-{number}", f"tried-{number}"
        expected = reported(lab, good.address, plain, once)
        assert reported(lab, bad.address, tried, sender) == expected
        assert state(lab, tried) == state(lab, plain)
        again = reported(lab, good.address, tried, once, of_the_deleted=404)
        assert all(later == first for later, first in zip(again, expected, strict=True) if later[0] != httpx2.codes.NOT_FOUND)
        assert state(lab, tried) == state(lab, plain), "I27: a repetition after everything has no effect"
    for kind in ("request lost", "answer lost") if faults else ():
        lab.counts[kind] += len(lab.reported(kind))
        assert lab.counts[kind] == len(STORY) * ROUNDS
    lab.tell(f"F12 {sender.__name__}")


def reported(lab: Lab, server: str, study: str, send: Sender, of_the_deleted: int | None = None) -> list[tuple[int, str]]:
    """The story with this name for its study; the answers, without what each run has of its own."""
    answers, claim = [], dict[str, str]()
    now = time.time()  # a worker that was last seen long ago is forgotten
    if study not in {worker.id for worker in lab.store.read(queries.workers)}:
        operations.register_worker(
            lab.store, Worker(id=study, host="host", pid=1, slots=1, devices=("cpu",), state="alive", started_at=now, seen_at=now)
        )
    for number, request in enumerate(STORY):
        status, text = send(lab, server, wire(request, study, f"{study}-{number}", claim))
        claim = json.loads(text) if request.route.endswith("/claims") else claim
        gone = of_the_deleted if request.other and request.method != "DELETE" else None
        assert status == (gone or request.status), text
        answers.append((status, plain(text, study)))
    return answers


def wire(request: Request, study: str, key: str, claim: Mapping[str, str] = NO_CLAIM) -> dict[str, Any]:
    """The request as it is sent under that key, about that claim."""
    lines = isinstance(request.body, str)
    text = request.body if lines else json.dumps(request.body).replace("{study}", study)
    content = None if request.body is None else text.encode()
    kind = "application/x-ndjson" if lines else "application/json"
    headers = {"idempotency-key": key} | ({} if content is None else {"content-type": kind})
    headers |= {"claim-token": claim["token"]} if CLAIMS in request.route else {}
    return {"method": request.method, "path": request.path(study, claim.get("claim", "")), "content": content, "headers": headers}


def state(lab: Lab, study: str) -> str:
    """All that the database holds of a study, without what each run has of its own."""
    with lab.store.reading() as tx:
        found = queries.find_study(tx, study)
        trials = [(one.number, one.state, one.params, one.source, one.attempt) for one in queries.trials(tx, found.id, limit=1_000)]
        events = [(one.seq, one.kind, one.body) for one in queries.events_after(tx, found.id, 0)]
        others = sorted(one.name for one in queries.studies(tx, 1_000) if one.name.startswith(study))
        workers = [worker.state for worker in queries.workers(tx) if worker.id == study]
    return plain(json.dumps([found.state, found.created, found.seq, trials, events, others, workers]), study)


def plain(text: str, study: str) -> str:
    return OF_ITS_OWN.sub(r'"\1": -', text).replace(study, "<study>")


def test_our_own_client_asks_again_by_itself(lab: Lab) -> None:
    """I27: each call of the client comes through a server that loses its first request and its first answer, and has one effect."""
    server = lab.serve(THAW_CHAOS_FAULTS=lossy.__name__)
    with Client(server.address) as client:
        study = client.create_study(document("by-client"))
        assert [trial.number for trial in client.queue_trials(study.name, [{"lr": 0.1}, {"lr": 0.2}])] == [0, 1]
        assert client.command(study.name, "pause").state == "paused"
        assert client.command(study.name, "resume").state == "active"
        assert client.command(study.name, "stop").state == "stopped"
        kinds = [event.kind for event in lab.store.read(queries.events_after, study.id, 0)]
        assert kinds == ["study_created", *["trial_queued"] * 2, "study_paused", "study_resumed", *["trial_cancelled"] * 2, "study_stopped"]
        client.delete_study(study.name)
        with pytest.raises(Refused, match="There is no study"):
            client.study(study.name)
    with pytest.raises(StudyNotFound):
        lab.store.read(queries.find_study, study.id)
    lab.counts |= {kind: len(lab.reported(kind)) for kind in ("request lost", "answer lost")}
    assert set(lab.counts.values()) == {6}
    lab.tell("F12 client")


def test_a_key_stands_for_one_request(lab: Lab) -> None:
    """I27: under a key that was used, another body, path or method is refused, and has no effect."""
    server = lab.serve()
    key = "the-one-key"
    assert once(lab, server.address, wire(STORY[0], "digits", key))[0] == 201
    for number in (1, 2):
        assert once(lab, server.address, wire(STORY[number], "digits", f"key-{number}"))[0] == 201
    claim = json.loads(once(lab, server.address, wire(A_CLAIM, "digits", "key-claim"))[1])
    before = state(lab, "digits")
    for request in STORY[1:]:
        study = "another" if request.route == STORY[0].route else "digits"
        status, text = once(lab, server.address, wire(replace(request, other=""), study, key, claim))
        assert (status, json.loads(text)["type"]) == (422, "urn:thawline:problem:idempotency-key-reused")
        lab.counts["keys used again"] += 1
    assert state(lab, "digits") == before
    lab.tell("F12 keys")


def test_a_repetition_waits_for_the_request_under_way(lab: Lab) -> None:
    """I27: while the first is held up by a lock, others with its key come; when it goes on, all get its answer, and there is one effect."""
    server = lab.serve()
    assert once(lab, server.address, wire(STORY[0], "digits", "create"))[0] == 201
    study = lab.store.read(queries.find_study, "digits")
    request = wire(STORY[1], "digits", "queue")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        with held(lab, study.id):
            sent = [pool.submit(until_it_is_taken, lab, server.address, request) for _ in range(AT_ONCE)]
            time.sleep(1)  # the lock is held, so that none can be answered
            assert not any(one.done() for one in sent)
        answers = {one.result(60) for one in sent}
    assert len(answers) == 1 and {status for status, _ in answers} == {201}
    assert lab.now(study).created == 1
    lab.counts["waited"] += AT_ONCE
    lab.tell("F12 under way")


def until_it_is_taken(lab: Lab, server: str, request: dict[str, Any]) -> tuple[int, str]:
    """Whoever waits too long for the lock is told to come back."""
    for _ in range(TRIES):
        status, text = once(lab, server, request)
        if status != httpx2.codes.SERVICE_UNAVAILABLE:
            return status, text
    raise AssertionError("it was never taken")


@contextmanager
def held(lab: Lab, study: str) -> Iterator[None]:
    with lab.store.writing() as tx, locked(tx, study):
        yield


def test_workers_that_do_not_hear_the_store_repeat_themselves(make_lab: MakeLab) -> None:
    """I1, I7, I8, I11, I18, I19: claims, reports, ends and heartbeats are committed and their answers lost.

    What was claimed so is found by a reaper; a report or an end that is told again is taken as the same; each end is acknowledged.
    """
    lab = make_lab(lease_seconds=4.0)
    study = lab.study(trials=TRIALS)
    for _ in range(3):
        lab.work(THAW_CHAOS_FAULTS=ambiguous.__name__)
    lab.until(lambda: lab.now(study).state.terminal, "all trials are done", seconds=600 if LONG else 180)
    for line in lab.reported("answer lost"):
        lab.counts[f"answers lost of {line['of']}"] += 1
    assert all(lab.counts[f"answers lost of {name}"] for name in ("claim_together", "record", "heartbeat")), lab.counts
    trials = lab.trials(study)
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    finished = {(trial.number, trial.attempt) for trial in trials}
    lab.until(lambda: finished <= ends_heard(lab), "I18: every worker is told that the end of its trial was recorded", 30)
    lab.measured["attempts"] = sum(trial.attempt for trial in trials)
    check(lab, study)
    lab.tell("F12 workers")


def ends_heard(lab: Lab) -> set[tuple[int, int]]:
    """Trial and attempt of each end that its worker knows to be recorded."""
    return {(line["number"], line["attempt"]) for line in lab.reported("acknowledged") if line["outcome"] == "finished"}
