"""Whole studies: suggestions, measurements, pruning, confirmation and export."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.goldens.golden import Goldens
from tests.goldens.releases.make import Server, prepared, search
from tests.goldens.training import machine

TRIAL = ("number", "state", "params", "value", "metrics", "step", "reason", "duplicate_of", "source", "confirms", "round", "detail", "seed")
REPORT = ("confusion_matrix", "per_class_recall", "test")
TIMES = {"train_seconds", "peak_memory", "seconds", "price"}  # members of answers and files whose values differ from run to run
PRICE = re.compile(r" \([^()]* (s a run|MiB)[^()]*\)")  # within a sentence
ENVIRONMENT = ("environment", "lock")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose worker has trained the studies."""
    folder = tmp_path_factory.mktemp("studies")
    given = prepared(folder)
    running = Server(folder)
    try:
        search(running, given)
        yield running
    finally:
        running.kill()


@pytest.mark.parametrize("study", ["heads", "curves"])
def test_a_study(study: str, server: Server, goldens: Goldens) -> None:
    found = {
        "trials": [trial_of(server, study, trial["number"]) for trial in server.call(f"/studies/{study}/trials?limit=500")["trials"]],
        "verdict": timeless(server.call(f"/studies/{study}/confirmation")["verdict"]),
        "best.yaml": exported(server, study),
    }
    goldens.check_computed(f"studies/{study}.json", machine(), found)


def trial_of(server: Server, study: str, number: int) -> dict[str, Any]:
    """A trial with its learning curve and its report."""
    whole = server.call(f"/studies/{study}/trials/{number}")
    reuse = whole["reuse"] or {}
    return {
        **{name: whole[name] for name in TRIAL},
        **{name: whole["result"][name] for name in REPORT if name in whole["result"]},
        "stored": [reuse.get("depth"), reuse.get("validation_depth")],
        "together": reuse.get("lanes"),
        "epochs": server.call(f"/studies/{study}/trials/{number}/metrics")["rows"],
    }


def exported(server: Server, study: str) -> dict[str, Any]:
    """The exported configuration, without the machine that it was reached on."""
    text = server.read(f"/studies/{study}/best?format=yaml").decode().replace(str(server.folder), "<folder>")
    text = text.replace(server.call(f"/studies/{study}")["id"], "<id>")
    return dict(timeless({name: value for name, value in yaml.safe_load(text).items() if name not in ENVIRONMENT}))


def timeless(value: Any) -> Any:
    """The value without times and memory."""
    match value:
        case str():
            return PRICE.sub(" (…)", value)
        case dict():
            return {key: timeless(item) for key, item in value.items() if key not in TIMES}
        case list():
            return [timeless(item) for item in value]
    return value
