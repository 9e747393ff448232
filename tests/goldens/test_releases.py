"""Files of earlier releases are accepted: databases, study files, exported configurations and studies, checkpoints."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.export import read_export
from service.domain.records import Claim
from service.operations import Searches
from service.settings import Settings
from service.store import Store, queries
from service.web.app import create_app
from tests.goldens.golden import Goldens
from tests.goldens.releases.make import PINNED, paint, prepared, write_weights
from tests.goldens.stored import API, OF_EACH_STUDY, PRESENT, RELEASES, STUDY, TRIAL, Recorder, anonymous, restored, steady
from tests.goldens.training import resumable, started
from tests.narrowed import trained
from tests.operations.driving import claim_one, finish
from tests.web.laboratory import HERE
from trainer.checkpoints import digest

FIRST = "schema-0004"  # version 0.1
MADE_IN = "/data/golden"  # the folder that the files of releases name
STUDY_FILES = ("study.yaml", "study-of-a-preset.yaml")
CLOSE = 1e-4  # to what is computed without the checkpoint, where the machine is another one


@pytest.mark.parametrize("release", [FIRST])
def test_a_database_is_read(release: str, tmp_path: Path, goldens: Goldens) -> None:
    with restored(release, tmp_path) as store:
        recorder = Recorder(store, Settings(home=tmp_path))
        studies = recorder.ask("GET", f"{API}/studies").json()["studies"]
        for study in sorted(study["name"] for study in studies):
            for below in OF_EACH_STUDY:
                recorder.ask("GET", f"{STUDY}{below}", study=study)
            recorder.ask("GET", f"{STUDY}/best", study=study)
            recorder.ask("GET", f"{TRIAL}/metrics", study=study)
        recorder.ask("GET", f"{STUDY}/export", study="heads")
        recorder.ask("GET", f"{API}/workers")
        goldens.check_json(f"rest/{release}.json", steady(recorder.answers))


@pytest.mark.parametrize("release", [FIRST, PRESENT])
def test_a_database_goes_on(release: str, tmp_path: Path, goldens: Goldens) -> None:
    """The trial that ran when the power failed is claimed again, then what the sampler suggests; the study ends and is exported."""
    with restored(release, tmp_path) as store:
        searches, study = Searches(), store.read(queries.find_study, "under-way")
        assert operations.requeue_lost(store, store.read(queries.running_leases)) == 1
        claims = list[Claim]()
        while not store.read(queries.find_study, study.id).state.terminal:
            claims.append(claim_one(store, searches))
            finish(store, claims[-1], 0.5 + claims[-1].lease.number / 100)
        with TestClient(create_app(store, Settings(home=tmp_path)), base_url=HERE) as client:
            exported = read_export(client.get(f"{API}/studies/under-way/best?format=yaml").text)
            assert exported.reached.value == 0.54
            assert client.post(f"{API}/studies/paused/resume").json()["state"] == "active"
        goldens.check_json(f"claims-{release}.json", [claimed(claim) for claim in claims])


def claimed(claim: Claim) -> dict[str, Any]:
    """The claim as JSON."""
    config = claim.spec.config_for(claim.params, claim.lease.number, claim.round)
    return {
        "number": claim.lease.number,
        "attempt": claim.lease.attempt,
        "checkpoints": [checkpoint.step for checkpoint in claim.checkpoints],
        "config": config.model_dump(mode="json"),
    }


@pytest.mark.parametrize("file", STUDY_FILES)
def test_a_study_file_is_the_same_study(file: str, embedded_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 0.1 read it, which wrote out ImageNet's mean and deviation where this version lets the weights decide.

    Its default precision was float32; that of new studies is auto, which they state.
    """
    paint(tmp_path / "data" / "sign-digits", count=60)
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights" / "squeezenet1_1.safetensors", "squeezenet1_1")
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(embedded_store, Settings(home=tmp_path))
    text = (RELEASES / FIRST / file).read_text()
    answer = recorder.ask("POST", f"{API}/studies", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    read_then = json.loads((RELEASES / FIRST / "specs.json").read_text())[file]
    read_then["model"] |= {"mean": None, "std": None}
    assert "precision" not in read_then["fixed"] | read_then["search_space"]
    read_then["fixed"]["precision"] = "auto"
    assert json.loads(answer.text.replace(f"{tmp_path}/", ""))["spec"] == read_then


def test_an_exported_file_has_the_same_configuration() -> None:
    """The digest is that by which version 0.1 knew the run."""
    exported = read_export((RELEASES / FIRST / "best.yaml").read_text())
    assert digest(trained(exported.config), exported.facts) == (RELEASES / FIRST / "best-digest.txt").read_text().strip()


def test_an_exported_file_is_trained_to_its_value(tmp_path: Path) -> None:
    prepared(tmp_path)
    text = (RELEASES / FIRST / "best.yaml").read_text().replace(MADE_IN, str(tmp_path))
    (tmp_path / "best.yaml").write_text(text)
    command: list[str | Path] = [sys.executable, "-P", "-m", "service.cli", "--home", tmp_path / "home", "train", "best.yaml"]
    trained = subprocess.run(command, cwd=tmp_path, env={**os.environ, **PINNED}, capture_output=True, text=True, timeout=300)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    result = json.loads((tmp_path / "trained" / "result.json").read_text())
    reached = read_export(text).reached
    assert result["expected"] == reached.value
    recorded = {name: result["metrics"][name] for name in reached.metrics}  # that release recorded fewer metrics
    assert recorded == pytest.approx(reached.metrics, rel=CLOSE)  # its trial shared a pass with others


def test_an_exported_study_is_imported(embedded_store: Store, tmp_path: Path, goldens: Goldens) -> None:
    recorder = Recorder(embedded_store, Settings(home=tmp_path))
    lines = (RELEASES / FIRST / "study.jsonl").read_bytes()
    recorder.ask("POST", f"{API}/studies/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    recorder.ask("GET", f"{STUDY}/trials", study="curves")
    recorder.ask("GET", f"{STUDY}/best", study="curves")
    goldens.check_json("rest/imported-schema-0004.json", anonymous(recorder.answers))


def test_a_run_is_resumed_from_a_checkpoint(tmp_path: Path, goldens: Goldens) -> None:
    """A run alone and a head, each after its first epoch."""
    files = json.loads((RELEASES / FIRST / "checkpoints.json").read_text())
    with started(tmp_path) as trainer:
        for name, order in resumable(tmp_path).items():
            content = base64.b64decode(files[name])
            (tmp_path / f"{name}.pt").write_bytes(content)
            file = {"step": 1, "path": f"{name}.pt", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            resumed, whole = trainer.run(replace(order, resume=file)), trainer.run(order)
            assert resumed.epochs == {step: pytest.approx(whole.epochs[step], rel=CLOSE) for step in (2, 3)}
            goldens.check_computed(f"training/resumed-{name}.json", trainer.machine, resumed.golden(tmp_path))
