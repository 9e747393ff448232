"""The list of studies: found by name and state, with trends, and sent only when it changed."""

import pytest
from starlette.testclient import TestClient

from service import operations
from service.web.studies import MOST_POINTS, thinned
from tests.web.laboratory import Laboratory


def names(client: TestClient, **asked: str | int | list[str]) -> list[str]:
    return [study["name"] for study in client.get("/api/v1/studies", params=asked).json()["studies"]]


def test_studies_are_found_by_a_part_of_their_name_and_by_state(client: TestClient, lab: Laboratory) -> None:
    for name in ("signs-head", "Signs_deep", "birds 50%"):
        lab.study(name)
    operations.pause_study(lab.store, lab.id_of("signs-head"))
    assert names(client, name="signs") == ["Signs_deep", "signs-head"]
    assert names(client, name="s_d") == ["Signs_deep"]  # no wildcard
    assert names(client, name="%") == ["birds 50%"]
    assert client.get("/api/v1/studies?name=%ED%A0%80").json()["studies"] == []  # half of a surrogate pair
    assert names(client, state="paused") == ["signs-head"]
    assert names(client, state=["paused", "active"], name="h") == ["signs-head"]
    assert names(client, limit=1, name="signs", after=lab.id_of("Signs_deep")) == ["signs-head"]
    assert client.get("/api/v1/studies?state=nothing").status_code == 422


@pytest.mark.parametrize(("objective", "expected"), [("accuracy", [[0, 0.5], [2, 0.75]]), ("loss", [[0, 0.5], [2, 0.25]])])
def test_a_trend_names_the_trials_that_were_the_best_until_then(
    client: TestClient, lab: Laboratory, objective: str, expected: list[list[float]]
) -> None:
    direction = {"accuracy": "maximize", "loss": "minimize"}[objective]
    study = lab.study(objective={"metric": objective, "direction": direction})
    claims = [lab.claim() for _ in range(4)]
    for claim, accuracy in zip(claims, (0.5, 0.25, 0.75, 0.75), strict=True):
        lab.finish(claim, accuracy)
    assert client.get("/api/v1/studies").json()["trends"] == {study.id: expected}


def test_a_list_that_did_not_change_is_not_sent_again(client: TestClient, lab: Laboratory) -> None:
    lab.study()
    claim = lab.claim()
    first = client.get("/api/v1/studies")
    again = client.get("/api/v1/studies", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    lab.finish(claim, 0.5)
    changed = client.get("/api/v1/studies", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert list(changed.json()["trends"].values()) == [[[0, 0.5]]]


def test_a_trend_that_is_remembered_follows_trials_that_end_out_of_turn(client: TestClient, lab: Laboratory) -> None:
    study = lab.study()
    claims = [lab.claim() for _ in range(5)]

    def trend() -> list[list[float]]:
        shown: list[list[float]] = client.get("/api/v1/studies").json()["trends"][study.id]
        return shown

    for place, accuracy, expected in (
        (3, 0.5, [[3, 0.5]]),
        (1, 0.25, [[1, 0.25], [3, 0.5]]),
        (4, 0.5, [[1, 0.25], [3, 0.5]]),
        (0, 0.375, [[0, 0.375], [3, 0.5]]),
        (2, 0.75, [[0, 0.375], [2, 0.75]]),
    ):
        lab.finish(claims[place], accuracy)
        assert trend() == expected


def test_a_long_trend_is_thinned_and_keeps_its_ends() -> None:
    points = [(number, number / 100) for number in range(100)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS and kept[0] == points[0] and kept[-1] == points[-1]
    assert thinned(points[:MOST_POINTS]) == tuple(points[:MOST_POINTS])
