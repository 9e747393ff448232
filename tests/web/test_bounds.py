"""Each bound, at the limit and one beyond it."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from search_spaces import documents, parameters
from search_spaces.faults import Fault
from service import operations
from service.domain.errors import InvalidInput
from service.domain.parsing import MOST_QUEUED
from service.domain.spec import MAX_TRIALS
from service.settings import Settings
from service.store import Store
from service.web import auth, middleware
from service.web.app import create_app
from service.web.auth import TokenMiddleware
from service.web.dependencies import LARGEST_PAGE
from service.web.events import MAX_STREAMS, MAX_STREAMS_OF_ONE
from service.web.problems import LONGEST_POINTER, MOST_FAULTS, for_error
from service.web.serve import MAX_HEAD_BYTES
from tests.web.laboratory import HERE, TOKEN, Laboratory, study_document
from tests.web.problem import assert_problem
from tests.web.server import Served
from tests.web.test_serve import said

STUDIES = "/api/v1/studies"
ADAM = {"lr": 0.01, "optimizer": "adam"}


def with_lr(**fields: Any) -> dict[str, Any]:
    return {"search_space": {"lr": {"type": "float", "low": 1e-5, "high": 0.1, **fields}}}


def choices(count: int) -> dict[str, Any]:
    return {"search_space": {"lr": {"type": "categorical", "choices": [(place + 1) / 100_000 for place in range(count)]}}}


def condition(count: int) -> dict[str, Any]:
    epochs = {"type": "int", "low": 1, "high": 100_000}
    lr = {"type": "float", "low": 0.1, "high": 0.2, "when": {"epochs": list(range(1, count + 1))}}
    return {"search_space": {"epochs": epochs, "lr": lr}, "fixed": {"image_size": 64}}


def grid(trials: int) -> dict[str, Any]:
    space = {"epochs": {"type": "int", "low": 1, "high": 9}}
    return {"search_space": space, "fixed": {"image_size": 64}, "sampler": {"name": "grid"}, "budget": {"trials": trials}}


DOCUMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "name, 128 characters": ({"name": "x" * 128}, {"name": "x" * 129}),
    "data path, 4096 characters": tuple({"data": {"path": "/" + "x" * count, "location": "workers"}} for count in (4_095, 4_096)),
    "trials, 100,000": ({"budget": {"trials": MAX_TRIALS}}, {"budget": {"trials": MAX_TRIALS + 1}}),
    "epochs, 100,000, and so the points of a metric": tuple({"fixed": {"epochs": count, "image_size": 64}} for count in (100_000, 100_001)),
    "attempts, 100": ({"limits": {"attempts": 100}}, {"limits": {"attempts": 101}}),
    "choices, 1,000": (choices(parameters.MAX_CHOICES), choices(parameters.MAX_CHOICES + 1)),
    "values of a condition, 1,000": (condition(parameters.MAX_CHOICES), condition(parameters.MAX_CHOICES + 1)),
    "steps, 1,000,000": (with_lr(low=1.0, high=2.0, step=1e-6), with_lr(low=1.0, high=2.0, step=0.999e-6)),
    "a grid within the budget": (grid(9), grid(8)),
    "whole numbers, 2^53": tuple({"sampler": {"name": "random", "seed": number}} for number in (2**53, 2**53 + 1)),
}


@pytest.mark.parametrize("bound", DOCUMENTS)
def test_a_document_at_the_bound_is_accepted_and_beyond_it_is_not(client: TestClient, bound: str) -> None:
    at, beyond = DOCUMENTS[bound]
    assert_problem(client.post(STUDIES, json=study_document() | beyond), 422, "validation")
    answer = client.post(STUDIES, json=study_document() | at)
    assert answer.status_code == 201, answer.text


def test_levels_of_a_document(client: TestClient) -> None:
    for levels, code in ((documents.MAX_DEPTH, "not_a_mapping"), (documents.MAX_DEPTH + 1, "too_deep")):
        body = "[" * levels + "]" * levels
        for kind in ("json", "yaml"):
            answer = client.post(STUDIES, content=body, headers={"content-type": f"application/{kind}"})
            assert assert_problem(answer, 422, "validation")["errors"][0]["code"] == code


def test_bytes_of_a_yaml_document(client: TestClient) -> None:
    headers = {"content-type": "application/yaml"}
    text = json.dumps(study_document()).encode()
    assert client.post(STUDIES, content=text.ljust(documents.MAX_YAML_BYTES), headers=headers).status_code == 201
    assert_problem(client.post(STUDIES, content=text.ljust(documents.MAX_YAML_BYTES + 1), headers=headers), 413, "body-too-large")


def test_characters_of_a_choice_and_of_a_parameter_s_name() -> None:
    parameters.Categorical(choices=("x" * parameters.MAX_STRING,))
    with pytest.raises(ValueError, match="at most 256 characters"):
        parameters.Categorical(choices=("x" * (parameters.MAX_STRING + 1),))
    assert parameters.NAME.match("x" * 64) and not parameters.NAME.match("x" * 65)


def test_trials_of_one_request(client: TestClient, lab: Laboratory) -> None:
    lab.study(budget={"trials": MOST_QUEUED + 1})
    address = f"{STUDIES}/digits/trials"
    assert_problem(client.post(address, json={"trials": [ADAM] * (MOST_QUEUED + 1)}), 422, "validation")
    assert client.post(address, json={"trials": [ADAM] * MOST_QUEUED}).status_code == 201
    assert client.post(address, json={"params": ADAM}).status_code == 201
    assert_problem(client.post(address, json={"params": ADAM}), 409, "budget-spent")


@pytest.mark.parametrize("path", ["", "/digits/trials", "/digits/changes", "/digits/trials/0/log"])
def test_entries_of_a_page(client: TestClient, lab: Laboratory, path: str) -> None:
    lab.study()
    lab.claim()
    assert client.get(f"{STUDIES}{path}?limit={LARGEST_PAGE}").status_code == 200
    assert_problem(client.get(f"{STUDIES}{path}?limit={LARGEST_PAGE + 1}"), 422, "validation")


def test_characters_of_an_idempotency_key(client: TestClient) -> None:
    assert client.post(STUDIES, json=study_document(), headers={"idempotency-key": "k" * 200}).status_code == 201
    assert_problem(client.post(STUDIES, json=study_document("two"), headers={"idempotency-key": "k" * 201}), 422, "validation")


def test_studies_of_a_server(client_of: Callable[[Settings], TestClient], settings: Settings) -> None:
    assert settings.max_studies == 1_000
    client = client_of(settings.model_copy(update={"max_studies": 3}))
    repeated = {"idempotency-key": "third"}
    for name in ("one", "two"):
        assert client.post(STUDIES, json=study_document(name)).status_code == 201
    assert client.post(STUDIES, json=study_document("three"), headers=repeated).status_code == 201
    answer = client.post(STUDIES, json=study_document("four"))
    assert_problem(answer, 429, "quota-exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert client.post(STUDIES, json=study_document("three"), headers=repeated).status_code == 201  # the first answer, told again
    assert client.delete(f"{STUDIES}/one").status_code == 204
    assert client.post(STUDIES, json=study_document("four")).status_code == 201


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("fine")(scope, receive, send)


def test_changes_of_one_address_in_a_second(settings: Settings) -> None:
    assert (settings.writes_per_second, middleware.BURST_SECONDS) == (60, 2.0)
    clock = Clock()
    limited = middleware.RateLimitMiddleware(fine, 60, clock)
    one, other = (TestClient(limited, client=(host, 50_000)) for host in ("10.0.0.1", "10.0.0.2"))
    assert [one.post("/").status_code for _ in range(121)] == [200] * 120 + [429]
    refusal = one.delete("/")
    assert_problem_without_guard(refusal, 429, "rate-limited")
    assert refusal.headers["retry-after"] == "1"
    assert one.get("/").status_code == 200 and other.post("/").status_code == 200
    clock.now += 1.0
    assert [one.post("/").status_code for _ in range(61)] == [200] * 60 + [429]


def assert_problem_without_guard(answer: Any, status: int, slug: str) -> None:
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:thawline:problem:{slug}"


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_stands_for_who_has_it(host: str, client: str) -> None:
    assert middleware.client_of({"type": "http", "client": (host, 1)}) == client
    assert not middleware.speaks_for_many(client)


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None])
def test_a_proxy_on_this_machine_may_hold_streams_for_many(client: tuple[str, int] | None) -> None:
    assert middleware.speaks_for_many(middleware.client_of({"type": "http", "client": client}))


def test_addresses_that_are_remembered() -> None:
    limited = middleware.Buckets(60)
    for number in range(middleware.MOST_ADDRESSES + 1):
        limited.wait(str(number))
    assert len(limited.buckets) == middleware.MOST_ADDRESSES and "0" not in limited.buckets


def test_a_guess_at_the_token_counts_as_a_change(client_of: Callable[[Settings], TestClient], settings: Settings) -> None:
    client = client_of(settings.model_copy(update={"token": TOKEN, "writes_per_second": 1}))
    answers = [client.post("/login", json={"token": "wrong-wrong-wrong"}).status_code for _ in range(4)]
    assert answers[:2] == [401, 401] and answers[-1] == 429


def test_streams_of_a_process_and_of_one_address(store: Store, settings: Settings, lab: Laboratory) -> None:
    operations.stop_study(lab.store, lab.study().id)
    app = create_app(store, settings)
    client, streams = TestClient(app, base_url=HERE), app.state.streams
    with ExitStack() as others:
        for _ in range(MAX_STREAMS_OF_ONE - 1):
            others.enter_context(streams.one_of("testclient"))
        assert client.get(f"{STUDIES}/digits/events").status_code == 200
        others.enter_context(streams.one_of("testclient"))
        answer = client.get(f"{STUDIES}/digits/events")
        assert_problem(answer, 429, "too-many-streams")
        assert int(answer.headers["retry-after"]) > 0
    with ExitStack() as others:
        for _ in range(MAX_STREAMS - 1):
            others.enter_context(streams.one_of("elsewhere"))
        assert client.get(f"{STUDIES}/digits/events").status_code == 200
        others.enter_context(streams.one_of("elsewhere"))
        assert_problem(client.get(f"{STUDIES}/digits/events"), 503, "too-many-streams")
    assert not streams.open and not streams.open_by


def test_requests_under_way() -> None:
    crowded = middleware.ConcurrencyLimitMiddleware(fine)
    client = TestClient(crowded)
    crowded.under_way = middleware.MAX_REQUESTS - 1
    assert client.get("/").status_code == 200
    crowded.under_way = middleware.MAX_REQUESTS
    assert_problem_without_guard(client.get("/"), 503, "busy")
    assert client.get("/livez").status_code == 200


def test_bytes_of_a_request_s_head(live: Served) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: {live.address.removeprefix('http://')}\r\nConnection: close\r\nX: "
    whole = head.ljust(MAX_HEAD_BYTES - 4, "x") + "\r\n\r\n"
    assert b"".join(said(live, whole.encode())).startswith(b"HTTP/1.1 200 ")
    unfinished = head.ljust(MAX_HEAD_BYTES + 1, "x")
    assert b"".join(said(live, unfinished.encode())).startswith(b"HTTP/1.1 400 ")


def test_faults_that_are_listed_and_characters_of_a_place() -> None:
    scope: Scope = {"type": "http", "path": "/"}
    for count, listed in ((MOST_FAULTS, MOST_FAULTS), (MOST_FAULTS + 1, MOST_FAULTS), (1, 1)):
        faults = [Fault(("x" * 1_000, place), "code", "message") for place in range(count)]
        problem = json.loads(bytes(for_error(scope, InvalidInput(faults)).body))
        assert len(problem["errors"]) == listed and str(count) in problem["detail"]
        assert all(len(fault["pointer"]) == LONGEST_POINTER for fault in problem["errors"])


def test_days_of_a_session(store: Store) -> None:
    sessions = auth.Sessions(TOKEN, store)
    cookie = sessions.issue(1_000.0)
    ends = 1_000.0 + auth.MAX_AGE_SECONDS
    assert sessions.seconds_left([cookie], ends - 1) == 1
    assert sessions.seconds_left(["of another server", cookie], ends - 1) == 1
    assert sessions.seconds_left([cookie], ends) == 0
    assert sessions.seconds_left([], 1_000.0) == 0
    assert auth.Sessions(TOKEN + "x", store).seconds_left([cookie], 1_000.0) == 0


def test_a_stream_ends_with_its_session(store: Store) -> None:
    """T20: the cookie is not looked at once and for all."""

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
            await asyncio.sleep(0.01)

    sessions = auth.Sessions(TOKEN, store)
    cookie = sessions.issue(time.time() - auth.MAX_AGE_SECONDS + 5)
    client = TestClient(TokenMiddleware(endless, TOKEN, sessions, middleware.Buckets(60)), cookies={auth.COOKIE: cookie})
    started = time.monotonic()
    assert client.get("/api/v1/studies/digits/events").status_code == 200
    assert 0.5 < time.monotonic() - started < 120
    assert client.get("/api/v1/studies/digits/events").status_code == 401
