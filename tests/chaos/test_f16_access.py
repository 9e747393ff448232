"""F16: every route, asked without the token, under a foreign name, or by another site. Nothing is told and nothing changes."""

import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from service import operations
from service.store import queries
from service.web.app import create_app
from service.web.auth import PUBLIC_PATHS
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import Lab
from tests.web.laboratory import HERE, TOKEN, Laboratory, study_document
from tests.web.raw import RawAnswer, send_raw
from tests.web.routes import changing_routes_of, locked_routes_of, routes_of
from trainer.protocol import Failed

BEARER = {"authorization": f"Bearer {TOKEN}"}
STRANGERS = {
    "nobody": {},
    "a wrong token": {"authorization": "Bearer " + "x" * len(TOKEN)},
    "the beginning of the token": {"authorization": f"Bearer {TOKEN[:-1]}"},
    "another scheme": {"authorization": f"Basic {TOKEN}"},
    "a forged session": {"cookie": f"thawline_session=9999999999.{'0' * 64}"},
    "the token as a session": {"cookie": f"thawline_session={TOKEN}"},
}
FOREIGN_NAMES = ("evil.example", "127.0.0.1.evil.example:8000", "evil.localhost:8000", "localhost.", "10.0.0.1:8000", "")
SITES = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": HERE},
)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(lease_seconds=600, heartbeat_seconds=60)


@pytest.fixture
def app(lab: Lab) -> Iterator[FastAPI]:
    """A server with a token, on a study that has ended: so does its stream, should it be opened."""
    laboratory = Laboratory(lab.store)
    study = laboratory.study()
    laboratory.finish(laboratory.claim(), 0.9)
    operations.stop_study(lab.store, study.id)
    yield create_app(lab.store, lab.settings.model_copy(update={"token": TOKEN, "writes_per_second": 1_000_000}))
    assert [study.id for study in lab.store.read(queries.studies)] == [study.id]


def refused(lab: Lab, answer: RawAnswer, status: int, slug: str, what: object) -> None:
    assert answer.status == status, f"{slug}: {what} got {answer.status}"
    assert answer.headers["content-type"] == "application/problem+json", what
    assert json.loads(answer.body)["type"] == f"urn:thawline:problem:{slug}", what
    assert TOKEN.encode() not in answer.body and "access-control-allow-origin" not in answer.headers, what
    lab.counts[f"refused: {slug}"] += 1


def test_no_route_knows_a_stranger(lab: Lab, app: FastAPI) -> None:
    """T1, T2, T19, T20: with no token, a wrong one, or a forged session; pages, streams, mounts and the description included."""
    for method, path in locked_routes_of(app):
        for who, headers in STRANGERS.items():
            refused(lab, send_raw(app, method, path, headers), 401, "unauthenticated", (method, path, who))
        for query in (f"token={TOKEN}", f"after={TOKEN}", "API_Key=1"):
            refused(lab, send_raw(app, method, f"{path}?{query}", BEARER), 400, "key-in-url", (method, path, query))
    lab.tell("F16 strangers")


def test_no_route_answers_to_a_foreign_name(lab: Lab, app: FastAPI) -> None:
    """T5: public paths and paths that do not exist included."""
    for method, path in [*routes_of(app), *(("GET", path) for path in PUBLIC_PATHS), ("GET", "/nowhere")]:
        for host in FOREIGN_NAMES:
            refused(lab, send_raw(app, method, path, BEARER, host=host), 400, "host-not-allowed", (method, path, host))
    lab.tell("F16 names")


def test_no_route_changes_anything_for_another_site(lab: Lab, app: FastAPI) -> None:
    """T6, T7: whether the browser sends the token along or not; DELETE included."""
    for method, path in changing_routes_of(app):
        for headers in SITES:
            refused(lab, send_raw(app, method, path, {**BEARER, **headers}), 403, "cross-site-request", (method, path, headers))
    for method, path in routes_of(app):
        for origin in ("https://evil.example", "null", HERE):
            answer = send_raw(app, method, path, {"origin": origin, "access-control-request-method": "DELETE"})
            assert not [name for name in answer.headers if name.startswith("access-control-")], (method, path)
    lab.tell("F16 sites")


def test_a_flood_of_changes_and_guesses_is_told_to_wait(lab: Lab, app: FastAPI) -> None:
    """T16, I32: beyond twice the rate at once, an address is refused with a time to wait; who only looks is not."""
    limited = create_app(lab.store, lab.settings.model_copy(update={"token": TOKEN, "writes_per_second": 1}))
    refusals = 0
    for number in range(30):
        method, path, headers = (("POST", "/login", {}), ("POST", "/api/v1/studies/digits/stop", BEARER))[number % 2]
        answer = send_raw(limited, method, path, headers)
        if answer.status == 429:
            refused(lab, answer, 429, "rate-limited", (method, path))
            refusals += 1
            assert int(answer.headers["retry-after"]) >= 1
    assert refusals, "I32: no change was refused"
    assert send_raw(limited, "GET", "/api/v1/studies", BEARER).status == 200
    lab.tell("F16 flood")


def test_strangers_do_not_slow_who_has_the_token(lab: Lab, app: FastAPI) -> None:
    """T16, T19: requests without the token, of each method, and guesses are told to wait; the token's owner at the same address is not."""
    limited = create_app(lab.store, lab.settings.model_copy(update={"token": TOKEN, "writes_per_second": 2}))
    for method, path in (("GET", "/api/v1/studies"), ("POST", "/api/v1/studies/digits/stop"), ("DELETE", "/nowhere"), ("HEAD", "/metrics")):
        answers = [send_raw(limited, method, path, STRANGERS["a wrong token"]) for _ in range(30)]
        waiting = [answer for answer in answers if answer.status == 429]
        assert waiting, f"I32: no guess by {method} was refused"
        assert {answer.status for answer in answers} <= {401, 429}, method
        for answer in waiting:
            assert int(answer.headers["retry-after"]) >= 1
            lab.counts["refused: rate-limited"] += 1
    stopped = send_raw(limited, "POST", "/api/v1/studies/digits/stop", BEARER)
    assert stopped.status != 429, "I32: strangers spent the rate of the token"
    assert send_raw(limited, "GET", "/api/v1/studies", BEARER).status == 200
    lab.tell("F16 strangers' flood")


def test_a_session_that_is_signed_under_the_token_alone_opens_nothing(lab: Lab, app: FastAPI) -> None:
    """T20: else whoever steals a cookie could try tokens against it, without asking the server."""
    issued = str(int(time.time()))
    for key in (TOKEN, "", "0" * 64):
        signature = hmac.new(key.encode(), f"session {issued}".encode(), "sha256").hexdigest()
        forged = {"cookie": f"thawline_session={issued}.{signature}"}
        refused(lab, send_raw(app, "GET", "/api/v1/studies", forged), 401, "unauthenticated", key)
    lab.tell("F16 forged sessions")


def test_no_link_leads_out_of_a_data_root(lab: Lab, tmp_path: Path) -> None:
    """T10: links are followed before paths are compared."""
    for label in ("cat", "dog"):
        (tmp_path / "secret" / label).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "secret" / label / f"{index}.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    client = TestClient(create_app(lab.store, lab.settings.model_copy(update={"data_roots": (tmp_path / "data",)})), base_url=HERE)
    for path in (tmp_path / "data" / "link", tmp_path / "data" / ".." / "secret", tmp_path / "secret"):
        answer = client.post("/api/v1/studies", json=study_document() | {"data": {"path": str(path)}})
        assert answer.status_code == 422 and "outside_data_roots" in answer.text, path
        lab.counts["refused: outside"] += 1
    lab.tell("F16 data roots")


def test_no_escape_sequence_is_stored(lab: Lab) -> None:
    """T8: what a trainer or another server says reaches the terminals of people."""
    laboratory = Laboratory(lab.store)
    study = laboratory.study()
    claim = laboratory.claim()
    said = "\x1b]52;c;cHduZWQ=\x07\x1b[2Jthe disk is full"
    failed = Failed(reason="bad_data", detail=said, step=0)
    assert operations.record(lab.store, [operations.Write(claim.lease, outcome=failed, log=f"{said}\n")]) == []
    events = lab.store.read(queries.events_after, study.id, 0, 100)
    stored = json.dumps([lab.store.read(queries.find_study, study.id).reason, [event.body for event in events]], default=str)
    assert "the disk is full" in stored and "\\u001b" not in stored and "52;c" not in stored
    lab.counts["cleaned"] += 1
    lab.tell("F16 escapes")
