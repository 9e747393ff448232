"""`--json`: the bodies of the REST interface on standard output, and nothing else there."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer.main

from service.cli import app
from service.cli.console import print_json

Thaw = Callable[..., Any]
WITHOUT = {  # what they print is a file or the server's own, or no program reads it
    "serve", "dashboard", "worker", "demo", "best", "predict", "study schema", "study export",
}  # fmt: skip


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Each command that runs something, by its words."""
    below = getattr(command, "commands", {})
    if not below:
        yield " ".join(path), command
    for name, one in below.items():
        yield from commands(one, *path, name)


def test_every_command_that_shows_something_has_the_option() -> None:
    found = {path: {option for one in command.params for option in one.opts} for path, command in commands(typer.main.get_command(app))}
    assert {path for path, options in found.items() if "--json" not in options} == WITHOUT


@pytest.fixture(scope="module")
def finished(served: Any, demo_data: Path) -> str:
    """The name of a study that has ended."""
    document = {
        "name": "as-json", "data": {"path": str(demo_data / "digits"), "validation": 0.3},
        "model": {"name": "small_cnn", "weights": str(demo_data / "small_cnn.safetensors")},
        "search_space": {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
        "fixed": {"epochs": 1, "image_size": 16, "batch_size": 64}, "sampler": {"name": "random"},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 2},
    }  # fmt: skip
    created = httpx2.post(f"{served.address}/api/v1/studies", json=document)
    assert created.status_code == 201, created.text
    watch = [sys.executable, "-P", "-m", "service.cli", "--server", served.address, "study", "watch", "as-json", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THAW_")}
    done = subprocess.run(watch, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["seq"] for one in events[:-1]] == sorted({one["seq"] for one in events[:-1]})
    assert {"trial_started", "trial_completed", "study_completed"} <= {one["event"] for one in events}
    assert events[-1]["event"] == "end" and events[-1]["study"]["state"] == "complete"
    return "as-json"


def test_documents_equal_the_bodies_of_the_rest_interface(thaw: Thaw, served: Any, finished: str) -> None:
    def rest(path: str) -> Any:
        return httpx2.get(f"{served.address}/api/v1/{path}").json()

    def shown(*arguments: object) -> Any:
        said = thaw("--server", served.address, *arguments, "--json")
        assert (said.code, said.err) == (0, "")
        return json.loads(said.out)

    whole = shown("study", "show", finished)
    assert whole.keys() == {"study", "trials", "confirmation"}
    assert whole["study"] == rest(f"studies/{finished}") and whole["confirmation"] == rest(f"studies/{finished}/confirmation")
    assert whole["trials"] == rest(f"studies/{finished}/trials")["trials"]
    assert next(one for one in shown("study", "list")["studies"] if one["name"] == finished) == next(
        one for one in rest("studies")["studies"] if one["name"] == finished
    )
    assert shown("study", "pruning", finished) == rest(f"studies/{finished}/pruning")
    log = shown("study", "log", finished, "1")
    assert log == rest(f"studies/{finished}/trials/1/log") and "prepared small_cnn" in "".join(one["text"] for one in log["chunks"])
    workers = shown("workers", "list")["workers"]
    assert [one["id"] for one in workers] == [one["id"] for one in rest("workers")["workers"]]
    ranked = shown("study", "objective", finished, "loss")
    assert ranked["best"] == rest(f"studies/{finished}")["best"] and ranked["spec"]["objective"]["metric"] == "loss"
    extended = shown("study", "extend", finished, "--trials", "1")
    assert extended["budget"]["trials"] == 3
    assert shown("study", "stop", finished)["state"] in ("stopped", "complete")


def test_parts_of_a_log_that_is_followed_are_lines(thaw: Thaw, served: Any, finished: str) -> None:
    said = thaw("--server", served.address, "study", "log", finished, "0", "--follow", "--json")
    parts = [json.loads(line) for line in said.out.splitlines()]
    assert parts and all(one.keys() == {"attempt", "seq", "at", "text"} for one in parts)
    assert "".join(one["text"] for one in parts) == thaw("--server", served.address, "study", "log", finished, "0").out


def test_queued_created_imported_and_deleted(
    thaw: Thaw, served: Any, finished: str, study_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Also with a password of a proxy in the address, which no output repeats."""
    server = served.address.replace("://", "://ann:swordfish@")
    file = study_file("json-made", data={"path": "digits", "location": "workers"}, budget={"trials": 1})
    created = thaw("--server", server, "study", "create", file, "--json")
    assert json.loads(created.out)["name"] == "json-made" and created.code == 0
    assert json.loads(thaw("--server", server, "study", "pause", "json-made", "--json").out)["name"] == "json-made"
    (tmp_path / "trials.yaml").write_text("[{lr: 0.01}]")
    plain = thaw("--server", server, "study", "queue", "json-made", tmp_path / "trials.yaml")
    assert plain.code == 0 and "1 trial queued, number" in plain.out, plain.err
    export = tmp_path / "study.jsonl"
    assert thaw("--server", server, "study", "export", finished, "-o", export).code == 0
    imported = thaw("--server", server, "study", "import", export, "--name", "json-import", "--json")
    assert json.loads(imported.out)["name"] == "json-import"
    linked = thaw("--server", server, "study", "import", export, "--name", "json-link")
    assert f"{served.address}/studies/" in linked.out
    for name in ("json-made", "json-import", "json-link"):
        assert json.loads(thaw("--server", server, "study", "delete", name, "--json").out) == {"deleted": name}
    for said in (created, plain, imported, linked):
        assert "swordfish" not in said.out + said.err


def test_a_conversion_has_the_file_and_the_notes(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("method: grid\nproject: vision\nparameters: {learning_rate: {values: [0.1, 0.01]}}\n")
    said = thaw("study", "convert", tmp_path / "sweep.yaml", "--json")
    found = json.loads(said.out)
    assert said.err == "" and found.keys() == {"study_file", "to_complete", "without_equivalent", "changed"}
    assert "data.path" in found["to_complete"] and found["study_file"].startswith("# Converted from a W&B sweep")


def test_the_state_of_a_database(thaw: Thaw, tmp_path: Path) -> None:
    assert json.loads(thaw("--home", tmp_path, "db", "upgrade", "--json").out) == {"schema_is_current": True}
    assert json.loads(thaw("--home", tmp_path, "db", "check", "--json").out) == {"schema_is_current": True}


def test_a_number_that_is_not_finite_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"reached": math.nan, "metrics": {"loss": math.inf}, "curve": [0.5, -math.inf]}, line=True)
    assert capsys.readouterr().out == '{"reached": null, "metrics": {"loss": null}, "curve": [0.5, null]}\n'


def test_a_document_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "a\x1b[2J\u202eb\n"})
    assert capsys.readouterr().out == '{\n  "name": "a\\u001b[2J\\u202eb\\n"\n}\n'
