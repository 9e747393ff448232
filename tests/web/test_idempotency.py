"""A repetition is answered from the store, whatever has become of the files that the study names."""

import json
import shutil
from pathlib import Path

from PIL import Image
from starlette.testclient import TestClient

from tests.web.laboratory import study_document
from tests.web.problem import assert_problem

STUDIES = "/api/v1/studies"


def test_a_repetition_is_answered_though_the_data_is_gone(client: TestClient, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for index in range(50):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "pets" / label / f"{index}.png")
    body = json.dumps(study_document(data={"path": str(tmp_path / "pets")}))
    headers = {"content-type": "application/json", "idempotency-key": "once"}
    first = client.post(STUDIES, content=body, headers=headers)
    assert first.status_code == 201
    shutil.rmtree(tmp_path / "pets")
    second = client.post(STUDIES, content=body, headers=headers)
    assert (second.status_code, second.text, second.headers["location"]) == (201, first.text, first.headers["location"])
    assert_problem(client.post(STUDIES, content=body, headers=headers | {"idempotency-key": "another"}), 422, "validation")


def test_a_refused_request_leaves_its_key_free(client: TestClient) -> None:
    headers = {"idempotency-key": "once"}
    assert_problem(client.post(STUDIES, json=study_document(budget={"trials": 0}), headers=headers), 422, "validation")
    assert client.post(STUDIES, json=study_document(), headers=headers).status_code == 201
