"""Studies of scripts over REST: refused where no worker allows their folder, with a notice until a worker has checked them."""

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.records import Worker
from service.store import Store
from tests.operations.test_scripts import FACTS, STUDY, claimed, finish


def register(store: Store, *folders: Path, name: str = "box", state: str = "alive") -> None:
    now = time.time()
    allowed = tuple(map(str, folders))
    one = Worker(
        id=name, host="box", pid=1, slots=1, devices=("cpu",), state=state, started_at=now, seen_at=now, scripts=allowed
    )  # fmt: skip
    operations.register_worker(store, one)


def posted(client: TestClient, folder: Path, **changes: Any) -> Any:
    return client.post("/api/v1/studies", json={**STUDY, "workdir": str(folder), **changes})


def test_without_a_worker_the_study_is_accepted_and_names_what_it_needs(client: TestClient, tmp_path: Path) -> None:
    answer = posted(client, tmp_path)
    assert answer.status_code == 201
    notice = next(one for one in answer.json()["notices"] if one["code"] == "needs_scripts")
    assert notice["pointer"] == "#/workdir" and f"`thaw worker --allow-scripts {tmp_path}`" in notice["message"]


def test_the_notice_ends_when_a_worker_has_checked_the_study(client: TestClient, store: Store, tmp_path: Path) -> None:
    key = posted(client, tmp_path).json()["id"]
    operations.pass_check(store, key, FACTS)
    found = client.get(f"/api/v1/studies/{key}").json()
    assert [one["code"] for one in found["notices"] if one["code"] == "needs_scripts"] == []
    assert found["facts"]["files"] == dict(FACTS.files) and found["sizes"] == {}


@pytest.mark.parametrize("allowed", [(), ("other",)])
def test_a_folder_that_no_live_worker_allows_is_refused(client: TestClient, store: Store, tmp_path: Path, allowed: tuple[str, ...]) -> None:
    register(store, *(tmp_path / name for name in allowed))
    register(store, tmp_path / "code", name="left", state="gone")
    answer = posted(client, tmp_path / "code")
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("#/workdir", "script_not_allowed")
    assert f"thaw worker --allow-scripts {tmp_path / 'code'}" in fault["detail"]
    checked = client.post("/api/v1/study-check", json={**STUDY, "workdir": str(tmp_path / "code")}).json()
    assert [one["code"] for one in checked["faults"]] == ["script_not_allowed"]


def test_a_claimant_over_rest_is_no_worker_that_forbids_scripts(client: TestClient, tmp_path: Path) -> None:
    key = posted(client, tmp_path).json()["id"]
    assert client.post(f"/api/v1/studies/{key}/claims").status_code == 201
    assert posted(client, tmp_path, name="another").status_code == 201


def test_a_folder_below_an_allowed_one_is_accepted_also_by_a_link(client: TestClient, store: Store, tmp_path: Path) -> None:
    (tmp_path / "real" / "code").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    register(store, (tmp_path / "real").resolve())
    assert posted(client, tmp_path / "link" / "code").status_code == 201
    assert posted(client, tmp_path / "real" / ".." / "elsewhere", name="another").status_code == 422


def test_workers_show_their_folders(client: TestClient, store: Store, tmp_path: Path) -> None:
    register(store, tmp_path)
    assert client.get("/api/v1/workers").json()["workers"][0]["scripts"] == [str(tmp_path)]


def test_a_parameter_without_effect_is_stated(client: TestClient, store: Store, tmp_path: Path) -> None:
    key = posted(client, tmp_path, baseline={"lr": 0.5, "unused": "a"}).json()["id"]
    operations.pass_check(store, key, FACTS)
    operations.enqueue_trials(store, key, [{"lr": 0.5, "unused": "b"}, {"lr": 0.25, "unused": "a"}])
    for digest in ("a", "a", "b"):
        finish(store, claimed(store), 0.5, curve=digest)
    (note,) = client.get(f"/api/v1/studies/{key}").json()["notes"]
    assert note == "Parameter unused has no effect: trials 0 and 1 differ only in it, and their curves of val/loss are equal bit for bit."


def test_the_export_has_parameters_and_digests_but_no_card(client: TestClient, store: Store, tmp_path: Path) -> None:
    key = posted(client, tmp_path, budget={"trials": 1}).json()["id"]
    operations.pass_check(store, key, FACTS)
    claim = claimed(store)
    finish(store, claim, 0.5)
    exported = client.get(f"/api/v1/studies/{key}/best?format=json").json()
    assert exported["config"]["params"] == dict(claim.params) and exported["config"]["command"] == STUDY["command"]
    assert exported["facts"]["files"] == dict(FACTS.files) and exported["reached"]["value"] == 0.5
    for form, title in (("card", "no-model"), ("requirements", "no-model"), ("python", "no-script")):
        answer = client.get(f"/api/v1/studies/{key}/best?format={form}")
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, title)
