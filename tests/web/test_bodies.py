"""Hostile bodies: none gets a 5xx, none is echoed, none gets far."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES
from service.web.requests import BodyLimitMiddleware
from tests.web.laboratory import Laboratory, study_document
from tests.web.problem import assert_problem

STUDIES = "/api/v1/studies"
JSON = {"content-type": "application/json"}
YAML = {"content-type": "application/yaml"}


def with_low(text: str) -> str:
    """The study in JSON with this text where the number of `lr.low` stands."""
    return json.dumps(study_document()).replace("1e-05", text)


class SlowlyFed:
    """An app whose body never comes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def never() -> Message:
            await asyncio.sleep(60)
            return await receive()

        await BodyLimitMiddleware(self.app, max_seconds=0.05)(scope, never, send)


HOSTILE = {
    "a number that is none": (with_low("NaN"), "#/search_space/lr/low", "not_finite"),
    "a number out of range": (with_low(str(2**63)), "#/search_space/lr/low", "too_large"),
    "a text that is none": (json.dumps(study_document("a\ud800b")), "#/name", "invalid_text"),
    "a key that is none": ('{"a\\u0000b": 1}', "#", "invalid_name"),
    "a duplicate key": ('{"name": "a", "name": "b"}', "#", "duplicate_key"),
}
"""The whole corpus is `tests.chaos.corpus`; here is where the pointers lead."""


@pytest.mark.parametrize("case", HOSTILE)
def test_what_can_be_read_but_not_accepted_gets_a_pointer(client: TestClient, case: str) -> None:
    text, pointer, code = HOSTILE[case]
    problem = assert_problem(client.post(STUDIES, content=text, headers=JSON), 422, "validation")
    assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [(pointer, code)]


def test_a_content_type_may_name_utf_8(client: TestClient) -> None:
    answer = client.post(STUDIES, content=json.dumps(study_document()), headers={"content-type": 'Application/JSON; charset="UTF-8"'})
    assert answer.status_code == 201


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(client: TestClient) -> None:
    text = json.dumps(study_document()).encode()
    assert client.post(STUDIES, content=text.ljust(MAX_BYTES), headers=JSON).status_code == 201
    assert_problem(client.post(STUDIES, content=text.ljust(MAX_BYTES + 1), headers=JSON), 413, "body-too-large")


def test_a_chunked_body_is_counted_as_it_comes(client: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 1
            yield b" " * (MAX_BYTES // 4)

    assert_problem(client.post(STUDIES, content=chunks(), headers=JSON), 413, "body-too-large")


def test_a_body_of_50_megabytes_is_refused_by_its_declared_length(client: TestClient) -> None:
    assert_problem(client.post(STUDIES, content=b"[" + b" " * 50_000_000, headers=JSON), 413, "body-too-large")


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "\uff11"])
def test_a_declared_length_that_is_no_length_is_refused(client: TestClient, length: str) -> None:
    headers = {b"content-type": b"application/json", b"content-length": length.encode()}
    answer = client.post(STUDIES, content=b"{}", headers=headers)
    assert_problem(answer, 413, "body-too-large")


def test_a_yaml_body_has_a_smaller_limit_for_it_is_slow_to_read(client: TestClient) -> None:
    problem = assert_problem(client.post(STUDIES, content=b" " * (MAX_YAML_BYTES + 1), headers=YAML), 413, "body-too-large")
    assert problem["errors"] == [
        {"pointer": "#", "code": "too_many_bytes", "detail": f"at most {MAX_YAML_BYTES} bytes are accepted; shorten the document"}
    ]


def test_a_body_that_trickles_is_given_up(client: TestClient) -> None:
    hurried = TestClient(SlowlyFed(client.app), base_url=str(client.base_url))
    answer = hurried.post(STUDIES, content=b"{}", headers=JSON)
    assert_problem(answer, 408, "body-too-slow")
    assert answer.headers["connection"] == "close"  # or the rest of the body would hold it for ever


def test_nothing_that_was_sent_is_said_again(client: TestClient) -> None:
    secret = "hunter2-hunter2"
    document = study_document(secret_field=secret, sampler={"name": secret}, budget={"trials": secret}, preset=secret)
    answer = client.post(STUDIES, json=document, headers={"idempotency-key": secret})
    assert answer.status_code == 422
    assert secret not in answer.text
    for query in ("limit", "after"):
        assert secret not in client.get(f"{STUDIES}?{query}={secret}").text


def test_queued_parameters_meet_the_same_care(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    address = f"{STUDIES}/digits/trials"
    assert_problem(client.post(address, content='{"params": {"lr": NaN}}', headers=JSON), 422, "validation")
    assert_problem(client.post(address, content="[" * 100_000, headers=JSON), 422, "validation")
    assert_problem(client.post(address, content="{}", headers={"content-type": "text/plain"}), 415, "unsupported-media-type")
    assert client.get(address).json()["trials"] == []
