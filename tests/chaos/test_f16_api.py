"""F16: no input gives a 5xx, every error is a problem, and none repeats what was sent. A corpus of hostile input, and Schemathesis."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from service import operations
from service.domain.errors import quoted
from service.store import queries
from service.web.app import create_app
from tests.chaos import corpus
from tests.chaos.conftest import MakeLab
from tests.chaos.corpus import MARKER, TEMPLATES
from tests.chaos.fuzzing import fuzz
from tests.chaos.lab import LONG, Lab
from tests.operations.driving import claim_trials
from tests.web.laboratory import FACTS, HERE, TOKEN, Laboratory, study_document
from tests.web.problem import assert_problem
from tests.web.raw import send_raw

STUDIES = "/api/v1/studies"
CHECK = "/api/v1/study-check"
IMPORT = "/api/v1/studies/import"  # takes lines; what is hostile to it is in tests/study_io/test_hostile.py
SLUGS = {400: "malformed-document", 401: "unauthenticated", 413: "body-too-large", 415: "unsupported-media-type", 422: "validation"}
MANY = 1_000_000  # changes a second: the rate is not what is tried here
SEED = 16  # of the fuzz in its short form, which finds the same on each machine


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A lab whose leases nobody has to renew."""
    return make_lab(lease_seconds=600, heartbeat_seconds=60)


@pytest.fixture
def study(lab: Lab) -> str:
    """The id of a study with a complete trial; 'digits' by name."""
    laboratory = Laboratory(lab.store)
    made = laboratory.study()
    claim = laboratory.claim()
    laboratory.report(claim, 1, accuracy=0.5)
    laboratory.finish(claim, 0.9)
    return made.id


def app_of(lab: Lab, token: str | None = None) -> FastAPI:
    return create_app(lab.store, lab.settings.model_copy(update={"writes_per_second": MANY, "token": token}))


@pytest.fixture
def client(lab: Lab) -> Iterator[TestClient]:
    with TestClient(app_of(lab), base_url=HERE, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def refused(lab: Lab, answer: Response, status: int, what: object, named: str = "") -> dict[str, Any]:
    """The problem that a bad input must get: known, counted, and without a word of what was sent but its address.

    `named` is the study in the address, which `detail` may quote.
    """
    lab.counts["bad inputs tried"] += 1
    assert answer.status_code == status, (what, answer.status_code, answer.text[:500])
    body = assert_problem(answer, status, SLUGS.get(status, answer.json()["type"].rpartition(":")[2]))
    said = "".join(str(value) for name, value in body.items() if name not in ("instance", "errors")) + "".join(
        fault["code"] + fault["detail"] for fault in body.get("errors", ())
    )
    said = said.replace(f"There is no study {quoted(named)}.", "") if named else said
    assert MARKER not in said, f"I28: the answer to {what} repeats what was sent: {answer.text[:500]}"
    assert len(answer.content) < 64 * 1024, f"the answer to {what} has {len(answer.content)} bytes"
    return body


def codes(problem: dict[str, Any]) -> list[str]:
    return [fault["code"] for fault in problem.get("errors", ())]


def test_every_route_with_a_body_is_in_the_corpus(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    with_body = {path for path, operations_ in paths.items() for one in operations_.values() if "requestBody" in one}
    assert with_body - {CHECK, IMPORT} | {"/login"} == TEMPLATES.keys()
    with_query = {path for path, one in paths.items() if any(each["in"] == "query" for each in one.get("get", {}).get("parameters", ()))}
    assert with_query == corpus.QUERIES.keys()


def test_hostile_bodies_change_nothing_wherever_they_are_posted(lab: Lab, study: str, client: TestClient) -> None:
    """I28, T13: what cannot be read, must not be accepted, or is too large."""
    claim = client.post(f"{STUDIES}/{study}/claims").json()
    before = client.get(f"{STUDIES}/digits").json()
    for route in TEMPLATES:
        address = route.replace("{study}", study).replace("{claim}", claim["claim"])
        for bad in corpus.bodies(route):
            method = "PATCH" if route in corpus.PATCHED else "POST"
            answer = client.request(method, address, content=bad.content, headers={"content-type": bad.kind, "claim-token": claim["token"]})
            problem = refused(lab, answer, bad.status, f"{bad.name} to {route}")
            assert bad.code is None or codes(problem)[0] == bad.code, (bad.name, problem)
    assert client.get(f"{STUDIES}/digits").json() == before
    assert lab.store.read(queries.count_studies) == 1
    lab.tell("F16 bodies")


def test_a_check_of_a_hostile_body_tells_what_is_wrong(lab: Lab, study: str, client: TestClient) -> None:
    """I28, T13: a check answers with faults where creating a study is refused, or is refused as well."""
    for bad in corpus.bodies(STUDIES):
        answer = client.post(CHECK, content=bad.content, headers={"content-type": bad.kind})
        lab.counts["bad inputs tried"] += 1
        assert answer.status_code in (200, bad.status), (bad.name, answer.status_code)
        assert answer.status_code != 200 or answer.json()["faults"], bad.name
    assert lab.store.read(queries.count_studies) == 1
    lab.tell("F16 checks")


def test_absurd_studies_and_trials_are_refused_before_anything_is_built(lab: Lab, study: str, client: TestClient) -> None:
    """I28, I32, T14: search spaces that no search can walk, and parameters that no space has."""
    for name, changes, code in corpus.absurd_studies():
        problem = refused(lab, client.post(STUDIES, json=study_document() | {"name": MARKER} | changes), 422, name)
        assert not code or code in codes(problem), (name, problem)
    for name, body in corpus.absurd_trials():
        refused(lab, client.post(f"{STUDIES}/{study}/trials", content=json.dumps(body), headers={"content-type": corpus.JSON}), 422, name)
    assert lab.store.read(queries.count_studies) == 1 and len(lab.store.read(queries.trials, study)) == 1
    lab.tell("F16 spaces")


def test_a_wrong_value_at_any_place_is_not_repeated(lab: Lab, study: str, client: TestClient) -> None:
    """I28, T13: each value of a study, and each of its sections, is exchanged for a text, a list, a mapping."""
    whole = study_document("exchanged", sampler={"name": "tpe", "seed": 0}, pruner={"name": "asha", "min_steps": 1, "reduction_factor": 3})
    whole |= {"limits": {"attempts": 3, "minutes": 5.0}, "baseline": {"lr": 0.01, "optimizer": "sgd"}}
    accepted = list[tuple[tuple[str | int, ...], object]]()
    for place in places(whole):
        for wrong in (MARKER, [MARKER], {MARKER: MARKER}, {"type": MARKER, "name": MARKER}):
            answer = client.post(STUDIES, json=exchanged(whole, place, wrong))
            if answer.status_code == 201:  # a text where a text belongs, such as a name
                client.delete(f"{STUDIES}/{answer.json()['id']}")
                accepted.append((place, wrong))
            else:
                refused(lab, answer, 422, place)
    assert accepted == [(("name",), MARKER), (("data", "path"), MARKER)]
    lab.tell("F16 places")


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def exchanged(value: Any, place: tuple[str | int, ...], wrong: object) -> Any:
    """A copy of the value with another one at that place."""
    if not place:
        return wrong
    copy = value.copy()
    copy[place[0]] = exchanged(value[place[0]], place[1:], wrong)
    return copy


def test_hostile_addresses_and_headers_are_refused(lab: Lab, study: str, client: TestClient) -> None:
    """I28, T10, T13: names, numbers, query strings and keys that are none."""
    for path, queries_ in corpus.QUERIES.items():
        address = path.replace("{study}", study).replace("{number}", "0").replace("{name}", "slice")
        for query in queries_:
            refused(lab, client.get(f"{address}?{query}"), 422, (path, query))
    for name in corpus.NAMES:
        for method, path in (("GET", ""), ("GET", "/best"), ("GET", "/events"), ("POST", "/stop"), ("DELETE", ""), ("POST", "/trials")):
            answer = client.request(method, f"{STUDIES}/{name}{path}", json={} if path == "/trials" else None)
            known = answer.status_code if answer.status_code in (404, 405) else 404
            problem = refused(lab, answer, known, (method, name, path), named=unquote(name))
            assert problem["detail"].isprintable() and len(problem["detail"]) < 200
    for number in corpus.NUMBERS:
        for method, path in (("GET", ""), ("GET", "/metrics"), ("POST", "/cancel")):
            answer = client.request(method, f"{STUDIES}/{study}/trials/{number}{path}")
            refused(lab, answer, answer.status_code if answer.status_code in (404, 405, 422) else 404, (method, number, path))
    for claim in (*corpus.NAMES, f"{study}-0-1", f"{study}-99-1", f"{study}-0-{'9' * 30}"):
        for verb in ("heartbeat", "report", "finish"):
            answer = client.post(f"/api/v1/claims/{claim}/{verb}", json={}, headers={"claim-token": MARKER})
            refused(lab, answer, answer.status_code if answer.status_code in (404, 405) else 404, (claim, verb))
    for key in corpus.KEYS:
        refused(lab, client.post(STUDIES, json=study_document(MARKER), headers={b"idempotency-key": key}), 422, key)
    assert lab.store.read(queries.count_studies) == 1
    lab.tell("F16 addresses")


def test_what_only_looks_hostile_is_accepted_and_shown_as_it_is(lab: Lab, client: TestClient) -> None:
    """T8, T14: odd names come back unchanged, and a trial can be claimed from each study."""
    searches = operations.Searches()
    for title, changes in corpus.odd_but_sound.items():
        answer = client.post(STUDIES, json=study_document() | {"name": title} | changes)
        assert answer.status_code == 201, (title, answer.text)
        made = answer.json()
        found = send_raw(client.app, "GET", f"{STUDIES}/{quote(made['name'], safe='')}", {})  # the client would decode it twice
        assert found.status == 200 and json.loads(found.body)["id"] == made["id"], title
        operations.pass_check(lab.store, made["id"], FACTS)
        assert claim_trials(lab.store, searches, "worker-1"), title
        assert client.delete(f"{STUDIES}/{made['id']}").status_code == 204
        lab.counts["odd inputs accepted"] += 1
    lab.tell("F16 odd")


def test_schemathesis_finds_nothing(lab: Lab, study: str) -> None:
    """I28: every call of the OpenAPI document, by examples, by the borders of its schemas, by chance, and in sequences."""
    thorough = LONG or lab.store.embedded
    phases = ("examples", "coverage", "fuzzing", "stateful") if thorough else ("examples", "fuzzing", "stateful")
    found = fuzz(app_of(lab), seed=lab.seed if LONG else SEED, examples=200 if LONG else 8, phases=phases)
    assert not found.failures, f"I28 (seed {found.seed}):\n" + "\n".join(found.failures)
    assert found.answers[200] and found.answers[201] and found.answers[422] and found.answers[404], found.answers
    lab.counts.update({"requests": found.requests, "refused": found.refused, "seed of the fuzz": found.seed})
    lab.tell("F16 Schemathesis")


def test_schemathesis_gets_nothing_without_the_token(lab: Lab, study: str) -> None:
    """I28, T1, T2: each call is repeated without the token and with a wrong one. That is decided before any database is asked."""
    found = fuzz(
        app_of(lab, TOKEN), seed=lab.seed if LONG else SEED, examples=50 if LONG else 3, phases=("examples", "fuzzing"), token=TOKEN
    )
    assert not found.failures, f"T2 (seed {found.seed}):\n" + "\n".join(found.failures)
    assert found.answers[200] and found.unauthenticated, found.answers
    lab.counts.update({"requests": found.requests, "refused without the token": found.unauthenticated})
    lab.tell("F16 token")
