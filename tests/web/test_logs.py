"""Logs of trials over REST."""

import time

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.records import Claim
from service.operations import Released, Write
from service.web.trials import prefers_text
from tests.web.laboratory import Laboratory
from tests.web.problem import assert_problem

LOG = "/api/v1/studies/digits/trials/0/log"
TEXT = {"accept": "text/plain"}


def write(lab: Laboratory, claim: Claim, *parts: str) -> None:
    for part in parts:
        assert operations.record(lab.store, [Write(claim.lease, log=part)]) == []


def test_a_log_is_read_part_by_part(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    write(lab, lab.claim(), "one\n", "two\nthree\n", "four\n")
    first = client.get(f"{LOG}?limit=2").json()
    assert (first["number"], first["attempt"], first["next"]) == (0, 1, 2)
    assert [(chunk["seq"], chunk["text"]) for chunk in first["chunks"]] == [(1, "one\n"), (2, "two\nthree\n")]
    assert all(chunk["at"].endswith("Z") for chunk in first["chunks"])
    rest = client.get(f"{LOG}?after=2").json()
    assert [chunk["text"] for chunk in rest["chunks"]] == ["four\n"] and rest["next"] is None
    assert [(one["attempt"], one["ending"]) for one in rest["attempts"]] == [(1, None)]


def test_each_attempt_has_a_log_of_its_own_and_the_newest_is_shown(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    first = lab.claim()
    write(lab, first, "the first attempt\n")
    assert operations.record(lab.store, [Write(first.lease, log="its last words\n", outcome=Released())]) == []
    write(lab, lab.claim(), "the second attempt\n")
    assert client.get(LOG, headers=TEXT).text == "the second attempt\n"
    assert client.get(f"{LOG}?attempt=1", headers=TEXT).text == "the first attempt\nits last words\n"
    assert [(one["attempt"], one["ending"]) for one in client.get(LOG).json()["attempts"]] == [(1, "released"), (2, None)]
    problem = assert_problem(client.get(f"{LOG}?attempt=3"), 422, "validation")
    assert problem["errors"][0]["code"] == "unknown_attempt"


def test_a_trial_that_has_not_begun_has_no_log(client: TestClient, lab: Laboratory) -> None:
    study = lab.study()
    operations.queue_trial(lab.store, study.id, {"lr": 0.01, "optimizer": "adam"})
    assert client.get(LOG).json() == {"number": 0, "attempt": None, "attempts": [], "chunks": [], "next": None}
    answer = client.get(LOG, headers=TEXT)
    assert (answer.status_code, answer.text) == (200, "")


def test_text_is_whole_and_no_browser_takes_it_for_anything_else(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    lines = "".join(f"<script>alert({number})</script> ä\n" for number in range(5_000))  # more than one chunk
    write(lab, lab.claim(), *(120 * ["a\n"]), lines)
    answer = client.get(LOG, headers=TEXT)
    assert answer.text == 120 * "a\n" + lines
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["vary"] == "Accept, Accept-Encoding"


def test_ten_megabytes_of_log_are_read_and_no_more(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    write(lab, claim, *(11 * [20_000 * f"{49 * 'x'}\n"]))
    answer = client.get(LOG, headers=TEXT)
    assert 9_900_000 < len(answer.content) < 10_100_000
    assert "longer than 10 MB" in answer.text.splitlines()[-1]
    assert operations.record(lab.store, [Write(claim.lease, log="more\n")]) == []
    assert client.get(LOG, headers=TEXT).text == answer.text


@pytest.mark.parametrize("query", ["attempt=0", "attempt=x", "after=-1", "limit=0", "limit=501", f"after={'9' * 400}"])
def test_a_wrong_query_is_a_fault(client: TestClient, lab: Laboratory, query: str) -> None:
    lab.study()
    lab.claim()
    problem = assert_problem(client.get(f"{LOG}?{query}"), 422, "validation")
    assert problem["errors"][0]["pointer"].startswith(f"#/query/{query.split('=')[0]}")


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("text/plain", True), ("text/*", True), ("text/plain, */*;q=0.8", True), ("TEXT/PLAIN ; q=0.5, application/json;q=0.4", True),
        ("", False), ("*/*", False), ("application/json", False), ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json, text/plain, */*", False), ("text/plain;q=nan", False), ("text/plain;q=x", False), ("text/plain;q=0", False),
    ],
)  # fmt: skip
def test_text_is_for_those_who_prefer_it(accept: str, text: bool) -> None:
    assert prefers_text(accept) is text


def test_a_hostile_accept_header_takes_no_longer_than_its_length(client: TestClient, lab: Laboratory) -> None:
    begun = time.process_time()  # other processes do not count
    assert not prefers_text(",".join(200_000 * ["a;q"]))
    assert time.process_time() - begun < 2
