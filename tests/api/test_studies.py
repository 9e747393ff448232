"""Studies of a real server through the public Python package."""

import contextlib
import csv
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import thawline
from service import client as rest
from service.domain.states import StudyState
from tests.narrowed import training
from thawline import Client, InvalidInput, Refused, Study, ThawlineError, UnexpectedAnswer, Unreachable, studies

THAW = Path(sys.executable).parent / "thaw"
SECONDS = 600
HEAVY = ("torch", "sqlalchemy", "alembic", "optuna", "fastapi", "starlette", "plotly", "scipy", "numpy", "pandas", "typer", "rich")


def document(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "data": {"path": "digits", "validation": 0.3}, "model": {"name": "small_cnn", "weights": "small_cnn.safetensors"},
        "search_space": {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
        "fixed": {"epochs": 1, "image_size": 16, "batch_size": 64, "frozen_layers": "all"}, "sampler": {"name": "random"},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 3}, **changes,
    }  # fmt: skip


@pytest.fixture
def client(server: str, demo_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client in the folder of the data."""
    monkeypatch.chdir(demo_data)
    with Client(server) as opened:
        yield opened


@pytest.fixture(scope="session")
def ended(server: str, demo_data: Path) -> Study:
    """A complete study of three trials, one of them queued."""
    with pytest.MonkeyPatch.context() as patch, Client(server) as client:
        patch.chdir(demo_data)
        study = client.create(document("ended"))
        study.queue({"lr": np.float64(0.01)})
        return client.study(study.wait(SECONDS).name)


def test_a_study_is_created_from_a_dict_a_text_and_a_file(client: Client, demo_data: Path, tmp_path: Path) -> None:
    file = demo_data / "of-a-file.yaml"
    file.write_text(yaml.safe_dump(document("of-a-file")))
    (demo_data / "of-json.json").write_text(json.dumps(document("of-json")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    paths: dict[str, Any] = {"data": {"path": demo_data / "digits", "validation": 0.3}}
    given: list[Mapping[str, Any] | str | Path] = [
        document("of-a-dict"), document("of-a-dict-with-a-path", **paths), yaml.safe_dump(document("of-a-text")), file, "of-json.json",
    ]  # fmt: skip
    created = [client.create(one).stop() for one in given]
    assert [study.name for study in created] == ["of-a-dict", "of-a-dict-with-a-path", "of-a-text", "of-a-file", "of-json"]
    assert {training(study.info.spec).data.path for study in created} == {str(demo_data / "digits")}
    assert [study.id for study in client.studies()][:5] == [study.id for study in reversed(created)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        assert training(client.create(file, replace=True).stop().info.spec).data.path == str(demo_data / "digits")
        with pytest.raises(Refused, match="digits") as refused:
            client.create(document("elsewhere"))
    assert "#/data/path" in {fault.pointer for fault in refused.value.faults}
    assert str(elsewhere / "digits") in str(refused.value), "the path that was tried"


def test_events_come_once_each_and_in_order_until_the_study_ends(client: Client) -> None:
    study = client.create(document("watched"))
    events = list(study.watch())
    assert [event.seq for event in events] == list(range(1, study.info.seq + 1))
    assert events[0].kind == "study_created" and events[-1].kind == "study_completed"
    assert study.state == "complete", "the study was read again"
    assert [event.seq for event in study.watch(after=5)] == list(range(6, study.info.seq + 1))
    assert list(study.watch(after=study.info.seq)) == []


def test_the_trials_of_an_ended_study(ended: Study, client: Client) -> None:
    study = client.study(ended.id)
    trials = study.trials()
    assert [trial.number for trial in trials] == [0, 1, 2] and {trial.state for trial in trials} == {"complete"}
    assert trials[0].params == {"lr": 0.01} and trials[0].source == "user"
    best = study.best()
    winner = max(trials, key=lambda trial: trial.value or 0)
    assert (best.origin.trial, best.origin.params, best.reached.value) == (winner.number, winner.params, winner.value)
    assert study.confirmation().phase == "none"
    figure = study.figure("optimization_history")
    assert sorted(figure.data[0].x) == [0, 1, 2]
    assert study.figure("slice", "lr").layout.meta["seq"] == study.info.seq
    assert repr(study) == f"<Study ended: complete, 3 trials, best accuracy {winner.value:.4g} (trial {winner.number})>"
    assert study.url == f"{client.url}/studies/{study.id}"


def test_the_table_has_the_columns_and_numbers_of_the_export(ended: Study, client: Client) -> None:
    table = client.study("ended").to_dataframe()
    command: list[str | Path] = [THAW, "--server", client.url, "study", "export", "ended", "--format", "csv"]
    exported = list(csv.DictReader(subprocess.check_output(command, text=True, timeout=120).splitlines()))
    assert list(table.columns) == list(exported[0])
    assert table["params.lr"].tolist() == [float(row["params.lr"]) for row in exported]
    assert table["value"].tolist() == [float(row["value"]) for row in exported]
    assert table["finished_at"].max() > table["queued_at"].min(), "times are times"


def test_a_table_without_pandas_is_an_error_that_names_it(ended: Study, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        client.study("ended").to_dataframe()


def test_a_study_is_paused_extended_resumed_and_stopped(client: Client) -> None:
    study = client.create(document("controlled"))
    assert study.pause().state == "paused"
    with pytest.raises(TimeoutError, match="controlled is paused after 0 seconds"):
        study.wait(timeout=0)
    assert study.extend(trials=2).info.budget.trials == 5
    assert study.resume().state == "active"
    assert study.stop().state == "stopped" and study.wait() is study


@pytest.fixture
def replay() -> Iterator[Callable[..., Client]]:
    """Makes a client of a server that gives these answers, one after the other: `busy` is a 503, an empty one breaks off.

    `asked`, if given, gets the path of each request.
    """
    with contextlib.ExitStack() as stack:

        def start(bodies: list[str], asked: list[str] | None = None) -> Client:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    if asked is not None:
                        asked.append(self.path)
                    if body := bodies.pop(0):
                        self.send_response(503 if body == "busy" else 200)
                        self.send_header("Content-Type", "text/event-stream" if body.startswith("id: ") else "application/json")
                        self.end_headers()
                        self.wfile.write(body.encode())

                def log_message(self, *_: object) -> None:
                    pass

            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            stack.callback(server.shutdown)
            return stack.enter_context(Client(f"http://127.0.0.1:{server.server_port}"))

        yield start


def test_a_server_may_be_busy_and_break_off_while_a_study_is_waited_for(
    ended: Study, replay: Callable[..., Client], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "POLL_SECONDS", 0.01)
    complete = client.study("ended").refresh()
    active = complete.model_copy(update={"state": StudyState.ACTIVE}).model_dump_json()
    bodies = [active, active, "busy", "", active, complete.model_dump_json()]
    assert replay(bodies).study("ended").wait(SECONDS).state == "complete"
    assert bodies == []


def test_a_broken_stream_of_events_is_continued_after_the_last_event(
    ended: Study, replay: Callable[..., Client], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "RECONNECT", (0.01, 0.01))
    known = client.study("ended").refresh().model_dump_json()

    def frames(*events: tuple[int, str]) -> str:
        return "".join(f'id: s-{seq}\nevent: {kind}\ndata: {{"seq": {seq}}}\n\n' for seq, kind in events)

    first, last = frames((1, "study_created"), (2, "trial_queued")), frames((3, "trial_started"), (4, "end"))
    asked: list[str] = []
    study = replay([known, known, first, "busy", "", last, "busy"], asked).study("ended")
    assert [(event.seq, event.kind) for event in study.watch()] == [(1, "study_created"), (2, "trial_queued"), (3, "trial_started")]
    assert [path.partition("events?")[2] for path in asked[2:6]] == ["after=0", "after=2", "after=2", "after=2"]


def test_answers_that_this_version_cannot_read_are_errors_of_the_package(
    ended: Study, replay: Callable[..., Client], client: Client
) -> None:
    known = client.study("ended").refresh().model_dump_json()
    study = replay([known, '{"kind": "thawline/training-config", "schema_version": 99}', "<html>", '{"data": 7}']).study("ended")
    for call in (study.best, study.best, lambda: study.figure("edf")):
        with pytest.raises(UnexpectedAnswer, match="version"):
            call()


@pytest.mark.parametrize("data", ["<html>", "{}", "[1]"])
def test_an_event_that_this_version_cannot_read_is_an_error_of_the_package(
    data: str, ended: Study, replay: Callable[..., Client], client: Client
) -> None:
    known = client.study("ended").refresh().model_dump_json()
    study = replay([known, known, f"id: s-1\nevent: trial_queued\ndata: {data}\n\n"]).study("ended")
    with pytest.raises(UnexpectedAnswer, match="trial_queued"):
        next(study.watch())


def test_unknown_names_are_refused_by_kind(ended: Study, client: Client) -> None:
    with pytest.raises(Refused, match='There is no study "lost"') as unknown:
        client.study("lost")
    assert (unknown.value.status, unknown.value.kind, unknown.value.faults) == (404, "study-not-found", ())
    with pytest.raises(Refused, match="choose one of optimization_history") as figure:
        client.study("ended").figure("pie")
    assert figure.value.status == 404
    with pytest.raises(Refused, match="#/name  another study has this name") as taken:
        client.create(document("ended"))
    assert taken.value.kind == "name-taken"


def test_a_faulty_document_is_an_error_with_pointers_and_messages(client: Client) -> None:
    faulty = document("faulty", search_space={"lr": {"type": "float", "low": 1, "high": 0.1}}, budget={"trials": 0})
    with pytest.raises(ThawlineError) as error:
        client.create(faulty)
    found = {fault.pointer: fault.message for fault in error.value.faults}
    assert found.keys() == {"#/search_space/lr/low", "#/budget/trials"}
    assert all(f"{pointer}  {message}" in str(error.value) for pointer, message in found.items()), "a notebook shows them"


def test_wrong_parameters_are_refused_by_name_and_none_is_queued(client: Client) -> None:
    study = client.create(document("queued")).pause()
    before = study.refresh().created
    with pytest.raises(Refused) as refused:
        study.queue({"lr": 0.01}, {"lr": 7})
    assert [fault.pointer for fault in refused.value.faults] == ["#/trials/1/lr"]
    assert study.stop().info.created == before


def test_a_study_without_a_complete_trial_has_no_best_one(client: Client) -> None:
    study = client.create(document("empty")).stop()
    with pytest.raises(Refused) as refused:
        study.best()
    assert refused.value.kind == "no-result"
    assert repr(study).startswith("<Study empty: stopped, ") and "best" not in repr(study)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.yaml", "missing.yaml: the file cannot be read: No such file"),
        (Path("small_cnn.safetensors"), "small_cnn.safetensors: "),
        ("~no-such-user/study.yaml", "cannot be the path"),
        ("a\0b", "cannot be the path"),
        ("name: x\ndata: [", "not valid YAML near line 2"),
        ("name: x\nname: y\n", "the key name appears twice"),
        ({"name": {1, 2}}, "a value of type set"),
    ],
)
def test_what_is_not_a_document_is_an_error_before_it_is_sent(given: Any, message: str, client: Client) -> None:
    with pytest.raises(InvalidInput) as error:
        client.create(given)
    assert message in str(error.value) and [fault.pointer for fault in error.value.faults] == ["#"]


def test_no_server_is_unreachable_also_for_a_study_that_is_followed(ended: Study) -> None:
    with Client("http://127.0.0.1:9") as client:
        study = Study(client._rest, ended.info)
        for call in (client.studies, study.wait, lambda: next(study.watch())):
            with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9"):
                call()


def test_the_password_of_a_proxy_is_in_no_message(replay: Callable[..., Client]) -> None:
    with Client("http://ann:p%40ss@127.0.0.1:9") as client:
        assert repr(client) == "<Client of http://127.0.0.1:9>"
        with pytest.raises(Unreachable) as error:
            client.studies()
    assert "ann" not in str(error.value)
    with Client(replay(["<html>"]).url.replace("//", "//ann:p%40ss@")) as client, pytest.raises(UnexpectedAnswer) as unread:
        client.study("ended")
    assert "ann" not in str(unread.value)


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_SERVER", "http://lab.example/")
    monkeypatch.setenv("THAW_TOKEN", "short")
    with pytest.raises(InvalidInput, match="16 or more visible"):
        Client()
    with Client(token="0123456789abcdef") as client:
        assert client.url == "http://lab.example" and repr(client) == "<Client of http://lab.example>"


def test_the_import_loads_no_heavy_package() -> None:
    code = f"import json, sys, thawline; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120)) == []


def test_every_public_name_is_documented() -> None:
    for name in thawline.__all__:
        assert getattr(thawline, name).__doc__, name
