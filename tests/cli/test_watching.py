"""A study followed from the terminal: every end is told once, in a few requests, and what was spared at the end."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service import operations
from service.cli.watching import watch
from service.client import Client
from service.domain.parsing import parse_study
from service.domain.records import MetricReport, Worker
from service.store import open_store, queries
from service.store.migrate import upgrade
from tests.operations.driving import TEST_IMAGES, scored
from tests.web.laboratory import ENVIRONMENT, FACTS, Laboratory, study_document
from tests.web.server import running
from trainer.configuration import LeftOut, ListingFacts
from trainer.protocol import Pace, Reuse
from trainer.tasks.images.config import Normalisation

Thaw = Callable[..., Any]
SPENT = {"forward": 6.0, "backward": 3.0}
REUSE = Reuse(pixels="cached", depth=9, place="disk", lanes=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("watched")
    upgrade(f"sqlite:///{home / 'thawline.db'}")
    return home


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """A server without workers, which the tests share; each takes a study name of its own."""
    with running(home, THAW_HEARTBEAT_SECONDS="60") as server:  # the laboratory's leases have no worker that renews them
        yield server.address


@pytest.fixture
def lab(home: Path) -> Iterator[Laboratory]:
    """The laboratory of that server's store."""
    store = open_store(f"sqlite:///{home / 'thawline.db'}")
    yield Laboratory(store)
    store.close()


def pace(left: float, saved: float = 0.0) -> Pace:
    return Pace(samples_per_second=1240.0, seconds_left=left, memory=1, seconds=SPENT, saved_seconds=saved)


def requests_of(address: str, route: str) -> int:
    found = re.search(rf'thawline_http_requests_total\{{method="GET",route="{re.escape(route)}",status="200"\}} (\d+)', figures(address))
    return int(found.group(1)) if found else 0


def figures(address: str) -> str:
    return httpx2.get(f"{address}/metrics").text


def test_three_hundred_trials_that_end_at_once_are_each_told_once_in_a_few_requests(
    address: str, lab: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = lab.shared_pass("flood", 300)

    def end_all_when_watched() -> None:
        while "thawline_event_streams 1.0" not in figures(address):
            time.sleep(0.05)
        lab.finish_all(claims, 0.75)

    ending = threading.Thread(target=end_all_when_watched)
    ending.start()
    with Client(address) as client:
        ended = watch(client, client.study("flood"))
    ending.join()
    lines = capsys.readouterr().out.splitlines()
    reported = [int(line.split(":")[0].removeprefix("trial ")) for line in lines if line.startswith("trial ")]
    assert sorted(reported) == list(range(300))
    assert ended.state == "complete" and lines[-1].startswith("The study is complete; best accuracy 0.7500")
    assert requests_of(address, "/api/v1/studies/{study}/changes") <= 8
    assert requests_of(address, "/api/v1/studies/{study}/trials/{number}") == 0


def test_a_watched_study_that_no_worker_can_read_prints_the_reason_once(
    address: str, lab: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    study, now = lab.study("unread"), time.time()
    worker = Worker(id="box-1", host="box", pid=7, slots=1, devices=("cpu",), state="alive", started_at=now, seen_at=now)
    operations.register_worker(lab.store, worker)

    def report_when_watched() -> None:
        for detail in ("it could not be downloaded", "it could not be downloaded", "there is no folder /models/bert"):
            while "thawline_event_streams 1.0" not in figures(address):
                time.sleep(0.05)
            operations.report_unavailable(lab.store, "box-1", study.id, "weights", detail)
            time.sleep(1.0)
        operations.stop_study(lab.store, study.id)
        operations.retire_worker(lab.store, "box-1")

    reporting = threading.Thread(target=report_when_watched)
    reporting.start()
    with Client(address) as client:
        watch(client, client.study("unread"))
    reporting.join()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("No worker")]
    assert [line.split("on box, ")[1].split(". The study")[0] for line in lines] == [
        "it could not be downloaded",
        "there is no folder /models/bert",
    ]


def test_what_was_spared_is_told_at_the_end(thaw: Thaw, address: str, lab: Laboratory) -> None:
    lab.study("spared", budget={"trials": 2})
    claims = lab.claims_from("spared", 2)
    for claim in claims:
        lab.tell(claim, 1, pace(left=200.0, saved=90.0), REUSE)
    under_way = thaw("--server", address, "study", "show", "spared").out
    assert "1240 images/s, 3 min 20 s left" in under_way
    assert under_way.splitlines()[-2:] == ["about 3 min 20 s left", "saved 1 min 30 s by stored outputs"]
    lab.finish_all(claims, 0.75)
    ended = thaw("--server", address, "study", "show", "spared").out
    assert ended.splitlines()[-1] == "saved 1 min 30 s by stored outputs" and " left" not in ended


def test_a_study_is_shown_with_notices_notes_about_the_data_and_the_largest_class(thaw: Thaw, address: str, lab: Laboratory) -> None:
    study = lab.study("noted", checked=False, pruner={"name": "asha", "min_steps": 9})
    before = thaw("--server", address, "study", "show", "noted").out
    assert "notice: #/pruner  the pruner never acts" in before and "note: " not in before
    listing = ListingFacts(
        notes=("The data's own split is used.",), unused_columns=("age",),
        left_out=(LeftOut(reason="broken link", count=1200, examples=("cat/1.png",)), LeftOut(reason="no image", count=1)),
    )  # fmt: skip
    found = {
        "listing": listing, "class_counts": {"train": (594, 6), "validation": (198, 2), "test": (198, 2)},
        "normalisation": Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3, source="assumed"),
    }  # fmt: skip
    operations.pass_check(lab.store, study.id, FACTS.model_copy(update=found))
    lab.finish(lab.claim_from("noted"), 0.95)
    notes = [line for line in thaw("--server", address, "study", "show", "noted").out.splitlines() if line.startswith("note: ")]
    assert notes[:4] == [
        "note: The data's own split is used.",
        "note: unused columns: age",
        "note: 1,200 left out: broken link (cat/1.png, …)",
        "note: 1 left out: no image",
    ]
    assert "ImageNet's are assumed" in notes[4]
    assert notes[5].startswith("note: The largest class, cat, has 99.0 % of the validation images.")
    assert notes[6].startswith("note: the best result so far is not better than this. ") and len(notes) == 7


def run_confirmation(lab: Laboratory, name: str, tests: dict[int, float]) -> None:
    """Run the confirmation of a study whose search has ended: by the searched trial, its share of the test images."""
    while claims := lab.claims_from(name, 50) or lab.claims_from(name, 50):  # the first call begins the confirmation
        for claim in claims:
            trial = lab.store.read(queries.find_trial, claim.lease.study, claim.lease.number)
            assert trial.confirms is not None and trial.round is not None
            outcome = scored(0.9, tests[trial.confirms] + 0.01 * (trial.round - 1))
            write = operations.Write(claim.lease, reports=[MetricReport(3, outcome.metrics)], outcome=outcome, result=ENVIRONMENT)
            assert operations.record(lab.store, [write]) == []


def test_trials_of_a_confirmation_are_marked_and_the_confirmed_value_is_stated_last(
    thaw: Thaw, address: str, lab: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    document = study_document("confirmed", confirm={"top": 1, "seeds": 3}, budget={"trials": 2})
    document["data"]["test"] = 0.2
    study = operations.create_study(lab.store, parse_study(document))
    sizes = {"images": {"train": 60, "validation": 20, "test": TEST_IMAGES}}
    operations.pass_check(lab.store, study.id, FACTS.model_copy(update=sizes))
    for claim, value in zip(lab.claims_from("confirmed", 2), (0.6, 0.8), strict=True):
        lab.finish(claim, value)
    under_way = thaw("--server", address, "study", "show", "confirmed").out
    assert "confirmation, round" not in under_way and "confirmed" not in under_way.splitlines()[-1]
    run_confirmation(lab, "confirmed", {0: 0.6, 1: 0.8})
    shown = thaw("--server", address, "study", "show", "confirmed").out.splitlines()
    marks = [line.split("  ")[-1].strip() for line in shown if "confirmation, round" in line]
    assert sorted(marks) == [f"confirmation, round {round}, of trial {number}" for round in (1, 2, 3) for number in (0, 1)]
    interval = r"95 % interval 0\.\d{4} to 0\.\d{4}"
    last = rf"confirmed: accuracy 0\.81\d\d, {interval}; trial 1, 3 runs with fresh seeds on {TEST_IMAGES} test images"
    assert re.fullmatch(last, shown[-1])
    with Client(address) as client:
        watch(client, client.study("confirmed"))
    watched = capsys.readouterr().out.splitlines()
    assert len([line for line in watched if line.startswith("trial ") and line.endswith(", of trial 1)")]) == 3
    assert not any("round" in line for line in watched if line.startswith(("trial 0:", "trial 1:")))
    assert re.fullmatch(last, watched[-1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trials.yaml", "- {lr: 1e-2, optimizer: sgd}\n- {lr: 2e-2, optimizer: adam}\n"),
        ("trials.json", '[{"lr": 0.01, "optimizer": "sgd"}, {"lr": 0.02, "optimizer": "adam"}]'),
        ("trials.jsonl", '{"lr": 0.01, "optimizer": "sgd"}\n\n{"lr": 0.02, "optimizer": "adam"}\n'),
    ],
)
def test_a_file_of_parameters_is_queued(thaw: Thaw, address: str, lab: Laboratory, tmp_path: Path, name: str, content: str) -> None:
    study = name.replace(".", "-")
    lab.study(study)
    (tmp_path / name).write_text(content)
    said = thaw("--server", address, "study", "queue", study, tmp_path / name)
    assert (said.code, said.out) == (0, f"{study}: 2 trials queued, numbers 0 to 1\n"), said.err
    with Client(address) as client:
        assert [trial.params for trial in client.trials(study)] == [{"lr": 0.01, "optimizer": "sgd"}, {"lr": 0.02, "optimizer": "adam"}]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("trials.yaml", "- {lr: 1e-2, optimizer: sgd}\n- {lr: 7, optimizer: adam}\n", "#/trials/1/lr"),
        ("trials.yaml", "lr: 1e-2\n", "#"),
        ("trials.jsonl", '{"lr": 0.01, "optimizer": "sgd"}\n{"lr": \n', "line 2"),
    ],
    ids=["outside", "no list", "broken line"],
)
def test_a_file_with_a_faulty_trial_queues_none(
    thaw: Thaw, address: str, lab: Laboratory, tmp_path: Path, name: str, content: str, place: str
) -> None:
    study = f"faulty {place}".replace("/", "-")
    lab.study(study)
    (tmp_path / name).write_text(content)
    said = thaw("--server", address, "study", "queue", study, tmp_path / name)
    assert said.code == 2 and said.err.startswith(f"{tmp_path / name}: {place}  "), said.err
    with Client(address) as client:
        assert list(client.trials(study)) == []
