"""Below the floor of free bytes what would make the database grow at a user's word is refused; the rest goes on."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.domain.errors import DiskFull
from service.settings import Settings
from service.web.dependencies import Disk, free_bytes
from tests.web.laboratory import Laboratory, study_document
from tests.web.problem import assert_problem

MORE_THAN_ANY = 2**62


@pytest.fixture
def crowded(client_of: Callable[[Settings], TestClient], settings: Settings) -> TestClient:
    """A server whose disk is below its floor."""
    return client_of(settings.model_copy(update={"disk_floor_bytes": MORE_THAN_ANY}))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", study_document("more")),
        ("/digits/trials", {"params": {"lr": 0.01, "optimizer": "sgd"}}),
        ("/digits/trials", {"trials": [{"lr": 0.01, "optimizer": "sgd"}]}),
    ],
)
def test_studies_and_trials_are_refused_with_a_time_to_wait(crowded: TestClient, lab: Laboratory, path: str, body: Any) -> None:
    lab.study()
    answer = crowded.post(f"/api/v1/studies{path}", json=body)
    assert_problem(answer, 507, "disk-full")
    assert int(answer.headers["retry-after"]) > 0


def test_reads_ends_and_results_go_on(crowded: TestClient, lab: Laboratory) -> None:
    study = lab.study()
    lab.finish(lab.claim(), 0.5)
    lab.claim()
    for path in ("", "/digits", "/digits/trials", "/digits/trials/0/metrics", "/digits/best"):
        assert crowded.get(f"/api/v1/studies{path}").status_code == 200
    for method, path, status in (
        ("POST", "/digits/trials/1/cancel", 200),
        ("POST", "/digits/pause", 200),
        ("POST", "/digits/resume", 200),
        ("POST", "/digits/stop", 200),
        ("DELETE", f"/{study.id}", 204),
    ):
        assert crowded.request(method, f"/api/v1/studies{path}").status_code == status
    assert crowded.get("/readyz").status_code == 200


def test_a_request_that_was_granted_before_is_answered_again(
    client_of: Callable[[Settings], TestClient], client: TestClient, settings: Settings
) -> None:
    key = {"idempotency-key": "once"}
    first = client.post("/api/v1/studies", json=study_document("more"), headers=key)
    crowded = client_of(settings.model_copy(update={"disk_floor_bytes": MORE_THAN_ANY}))
    again = crowded.post("/api/v1/studies", json=study_document("more"), headers=key)
    assert (first.status_code, again.status_code) == (201, 201) and again.json() == first.json()


def test_a_floor_of_none_refuses_nothing(client_of: Callable[[Settings], TestClient], settings: Settings) -> None:
    open_to_all = client_of(settings.model_copy(update={"disk_floor_bytes": 0}))
    assert open_to_all.post("/api/v1/studies", json=study_document("more")).status_code == 201


def test_free_bytes_are_a_figure(client: TestClient, settings: Settings) -> None:
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith("thawline_disk_free_bytes ")]
    assert float(line.split()[1]) == pytest.approx(shutil.disk_usage(settings.home).free, rel=0.2)


def test_at_the_floor_there_is_room_and_a_byte_below_it_there_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.disk_usage(settings.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: found._replace(free=1_000))
    Disk(settings.home, 1_000).require_room()
    with pytest.raises(DiskFull):
        Disk(settings.home, 1_001).require_room()


def test_a_folder_that_is_yet_to_be_made_lies_where_its_parents_do(settings: Settings) -> None:
    assert free_bytes(settings.home / "a" / "b") == pytest.approx(shutil.disk_usage(settings.home).free, rel=0.2)


def test_a_disk_that_does_not_say_counts_as_one_with_room(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert free_bytes(settings.home) is None and not Disk(settings.home, MORE_THAN_ANY).is_low
