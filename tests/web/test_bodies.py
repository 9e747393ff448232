"""Hostile bodies: none gets a 5xx, none is echoed, none gets far."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES
from service.web.body import BodyLimit
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

        await BodyLimit(self.app, max_seconds=0.05)(scope, never, send)


HOSTILE = {
    "NaN": (with_low("NaN"), "#/search_space/lr/low", "not_finite"),
    "Infinity": (with_low("-Infinity"), "#/search_space/lr/low", "not_finite"),
    "1e999": (with_low("1e999"), "#/search_space/lr/low", "not_finite"),
    "an int of 5000 digits": (with_low("9" * 5000), "#/search_space/lr/low", "too_large"),
    "an int of 64 bits": (with_low(str(2**63)), "#/search_space/lr/low", "too_large"),
    "a lone surrogate": (json.dumps(study_document("a\ud800b")), "#/name", "invalid_text"),
    "a NUL": (json.dumps(study_document("a\0b")), "#/name", "invalid_text"),
    "a bidirectional override": (json.dumps(study_document("a\u202eb")), "#/name", "invalid_text"),
    "a key with a NUL": ('{"a\\u0000b": 1}', "#", "invalid_name"),
    "100,000 levels of lists": ("[" * 100_000 + "]" * 100_000, "#", "too_deep"),
    "100,000 levels of objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "#", "too_deep"),
    "100,000 levels that never close": ("[" * 100_000, "#", "too_deep"),
    "a duplicate key": ('{"name": "a", "name": "b"}', "#", "duplicate_key"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_can_be_read_but_not_accepted_gets_a_pointer(client: TestClient, case: str) -> None:
    text, pointer, code = HOSTILE[case]
    problem = assert_problem(client.post(STUDIES, content=text, headers=JSON), 422, "validation")
    assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [(pointer, code)]


MALFORMED = {
    "nothing": b"",
    "half an object": b'{"name": ',
    "two documents": b"{}{}",
    "invalid UTF-8": b'{"name": "\xff"}',
    "an encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "single quotes": b"{'name': 'a'}",
    "an open string": b'"' + b"\\" * 99_999,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_cannot_be_read_is_malformed(client: TestClient, case: str) -> None:
    assert_problem(client.post(STUDIES, content=MALFORMED[case], headers=JSON), 400, "malformed-document")


HOSTILE_YAML = {
    "an alias bomb": ("a: &a [x, x]\nb: [*a, *a]", 422, "yaml_alias"),
    "a Python object": ("!!python/object/apply:os.system ['true']", 422, "yaml_tag"),
    "a time that is none": ("a: !!timestamp nonsense", 422, "yaml_tag"),
    "deep nesting": ("[" * 100_000, 422, "too_deep"),
    "not a number": ("a: .nan", 422, "not_finite"),
    "a duplicate key": ("a: 1\na: 2", 422, "duplicate_key"),
    "a key that is no text": ("1: a", 422, "key_not_text"),
    "a tab": ("a:\n\t- b", 400, "malformed_yaml"),
    "an escape beyond Unicode": ('a: "\\U00110000"', 400, "malformed_yaml"),
    "a NUL": ("a: \0", 400, "malformed_yaml"),
}


@pytest.mark.parametrize("case", HOSTILE_YAML)
def test_hostile_yaml_is_a_fault_too(client: TestClient, case: str) -> None:
    text, status, code = HOSTILE_YAML[case]
    problem = assert_problem(
        client.post(STUDIES, content=text, headers=YAML), status, "validation" if status == 422 else "malformed-document"
    )
    assert problem["errors"][0]["code"] == code


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_other_content_types_are_not_read(client: TestClient, kind: str) -> None:
    answer = client.post(STUDIES, content=json.dumps(study_document()), headers={"content-type": kind})
    assert_problem(answer, 415, "unsupported-media-type")


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
        {"pointer": "#", "code": "too_many_bytes", "detail": f"at most {MAX_YAML_BYTES} bytes are read; shorten it"}
    ]


def test_a_body_that_trickles_is_given_up(client: TestClient) -> None:
    hurried = TestClient(SlowlyFed(client.app), base_url=str(client.base_url))
    assert_problem(hurried.post(STUDIES, content=b"{}", headers=JSON), 408, "body-too-slow")


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
