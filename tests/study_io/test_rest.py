"""Studies that travel over REST, and by the commands."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from starlette.testclient import TestClient

from service import operations
from service.cli import main
from service.domain.records import Study
from service.settings import Settings
from service.store import Store, open_store, queries
from service.web.app import create_app
from service.web.study_io import MAX_IMPORT
from tests.study_io.luggage import documents, exported, mixed_study, sealed
from tests.web.laboratory import HERE, study_document
from tests.web.problem import assert_problem
from tests.web.server import Served, running

IMPORT = "/api/v1/studies/import"
LINES = {"content-type": "application/x-ndjson"}


@pytest.fixture
def client(embedded_store: Store, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(embedded_store, Settings(home=tmp_path)), base_url=HERE) as opened:
        yield opened


@pytest.fixture
def study(embedded_store: Store) -> Study:
    return operations.stop_study(embedded_store, mixed_study(embedded_store).id)


def test_what_is_exported_can_be_imported_and_shown(client: TestClient, study: Study) -> None:
    export = client.get(f"/api/v1/studies/{study.name}/export")
    assert export.headers["content-type"].startswith("application/x-ndjson")
    assert export.headers["content-disposition"] == f'attachment; filename="{study.id}.jsonl"'
    answer = client.post(f"{IMPORT}?name=again", content=export.content, headers=LINES)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["name"], body["state"], body["best"]["value"]) == ("again", "stopped", 0.91)
    assert answer.headers["location"] == f"/api/v1/studies/{body['id']}"
    for path in (
        "",
        "/trials",
        "/trials/0",
        "/trials/1/metrics",
        "/table",
        "/curves?metric=accuracy",
        "/changes",
        "/best",
        "/confirmation",
    ):
        assert client.get(f"/api/v1/studies/again{path}").status_code == 200, path
    assert documents(client.get("/api/v1/studies/again/export").content) == documents(export.content)


def test_an_import_that_is_sent_twice_has_one_effect(client: TestClient, embedded_store: Store, study: Study) -> None:
    raw = exported(embedded_store, study)
    first, second = (client.post(f"{IMPORT}?name=again", content=raw, headers={**LINES, "Idempotency-Key": "k"}) for _ in range(2))
    assert first.status_code == second.status_code == 201 and first.text == second.text
    assert_problem(
        client.post(f"{IMPORT}?name=other", content=raw, headers={**LINES, "Idempotency-Key": "k"}), 422, "idempotency-key-reused"
    )
    assert len(embedded_store.read(queries.studies)) == 2


def test_a_fault_names_its_line_and_nothing_is_written(client: TestClient, embedded_store: Store, study: Study) -> None:
    raw = exported(embedded_store, study)
    problem = assert_problem(client.post(f"{IMPORT}?name=again", content=raw[:-300], headers=LINES), 422, "validation")
    assert problem["errors"][0]["pointer"] == "#/line 8"
    for query, pointer in (("", "#/line 1/spec/name"), ("?name=digits", "#/name")):
        problem = assert_problem(client.post(IMPORT + query, content=raw, headers=LINES), 409, "name-taken")
        assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert_problem(client.post(f"{IMPORT}?name=a/b", content=raw, headers=LINES), 422, "validation")
    assert_problem(client.post(IMPORT, content=b"", headers=LINES), 422, "validation")
    assert_problem(client.post(IMPORT, content=raw, headers={"content-type": "application/json"}), 415, "unsupported-media-type")
    assert_problem(client.post(IMPORT, content=raw, headers={**LINES, "Idempotency-Key": "a b"}), 422, "validation")
    assert_problem(client.post(IMPORT, content=raw, headers={**LINES, "content-length": str(MAX_IMPORT + 1)}), 413, "body-too-large")
    assert len(embedded_store.read(queries.studies)) == 1


def test_only_so_many_imports_are_under_way_at_one_time(client: TestClient, embedded_store: Store, study: Study) -> None:
    imports = client.app.state.imports  # type: ignore[attr-defined]
    imports.under_way = imports.most
    assert_problem(client.post(IMPORT, content=exported(embedded_store, study), headers=LINES), 503, "busy")
    imports.under_way = 0
    assert client.post(f"{IMPORT}?name=again", content=exported(embedded_store, study), headers=LINES).status_code == 201
    assert imports.under_way == 0


def test_what_shall_go_on_must_be_runnable_here(client: TestClient, embedded_store: Store) -> None:
    study = mixed_study(embedded_store)
    lines = [json.loads(line) for line in exported(embedded_store, study).splitlines()]
    lines[0]["spec"]["data"] |= {"location": "server", "path": "/nowhere"}
    problem = assert_problem(client.post(f"{IMPORT}?name=again&paused=true", content=sealed(lines), headers=LINES), 422, "validation")
    assert problem["errors"][0]["pointer"] == "#/line 1/spec/data/path"
    assert client.post(f"{IMPORT}?name=again", content=sealed(lines), headers=LINES).status_code == 201


@pytest.fixture
def server(tmp_path: Path, migrated_sqlite: str) -> Iterator[Served]:
    """A server on a store with one study."""
    store = open_store(migrated_sqlite)
    operations.stop_study(store, mixed_study(store).id)
    store.close()
    with running(tmp_path) as served:
        yield served


@pytest.fixture
def thaw(server: Served, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["--server", server.address, "study", *map(str, arguments)])
        said = capfdbinary.readouterr()
        return int(end.value.code or 0), said.out.decode(), said.err.decode()

    return run


def test_the_commands_carry_a_study_out_and_in(thaw: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    lines, table, database = (tmp_path / name for name in ("digits.jsonl", "digits.csv", "optuna.db"))
    assert thaw("export", "digits", "-o", lines)[0] == 0
    assert thaw("export", "digits")[1].encode() == lines.read_bytes()
    assert thaw("export", "digits", "--format", "csv", "-o", table)[0] == 0 and table.read_bytes().startswith(
        b"number,state,value,params.lr"
    )
    assert thaw("export", "digits", "--format", "optuna", "-o", database)[0] == 0
    code, _, err = thaw("export", "digits", "--format", "optuna", "-o", database)
    assert code == 1 and "exists" in err
    assert len(optuna.load_study(study_name="digits", storage=f"sqlite:///{database}").trials) == 7

    code, out, err = thaw("import", lines, "--name", "second")
    assert code == 0 and "second" in out and "stopped, with 7 trials" in out, err
    code, out, err = thaw("import", f"sqlite:///{database}", "--name", "third")
    assert code == 0 and "paused" in out and "7 trials" in out, err
    assert "third: active" in thaw("resume", "third")[1]

    lines.write_bytes(lines.read_bytes()[:-10])
    code, _, err = thaw("import", lines, "--name", "fourth")
    assert code == 2 and f"{lines}: #/line 9  the file is truncated within this line" in err, err


def test_a_foreign_database_needs_a_study_file_whose_faults_are_named_there(
    thaw: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    theirs = optuna.create_study(storage=f"sqlite:///{tmp_path / 'theirs.db'}", direction="maximize")
    for lr in (0.01, 0.02):
        theirs.tell(theirs.ask({"lr": optuna.distributions.FloatDistribution(0.001, 0.1)}), lr)
    code, _, err = thaw("import", tmp_path / "theirs.db")
    assert code == 1 and "--like STUDY_FILE" in err

    def like(**changes: Any) -> Path:
        space = {"lr": {"type": "float", "low": 0.0001, "high": 0.1}}
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(study_document("warm", search_space=space, **changes)))
        return file

    code, _, err = thaw("import", tmp_path / "theirs.db", "--like", like(budget={"trials": 2}))
    assert code == 2 and "study.yaml: #/budget/trials  the 2 imported trials count towards the budget of 2; raise it above 2" in err, err
    code, _, err = thaw("import", tmp_path / "theirs.db", "--like", like(data={"path": "/nowhere"}))
    assert code == 2 and "study.yaml: #/data/path  " in err, err
    code, out, err = thaw("import", tmp_path / "theirs.db", "--like", like())
    assert code == 0 and "warm" in out and "paused, with 2 trials" in out, err
    code, _, err = thaw("import", "postgresql://x/y")
    assert code == 1 and "sqlite:///FILE" in err
