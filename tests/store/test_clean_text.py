"""Text from outside is stored without what a terminal would obey, whichever way it comes; commands clean what was stored before."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from service import operations
from service.cli import main
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.records import Worker
from service.domain.states import WorkerState
from service.domain.text import clean
from service.store import Store, open_store, queries
from service.store.schema import study as study_table
from tests.operations.driving import claim_one, ready, searches_of, tell
from tests.study_io.luggage import exported, imported, mixed_study, sealed
from tests.web.laboratory import Laboratory, study_document
from tests.web.server import running
from trainer.protocol import Failed

OBEYED = "\x1b]0;owned\x07\x1b[2J\x1b]52;c;cHduZWQ=\x07\x9b31mred\u202e\x85\u2028"
SAID = f"{OBEYED}the disk is full\n\ta second line"


def assert_plain(value: object) -> None:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    assert not [one for one in ("\x1b", "\x07", "\x9b", "\x85", "\u202e", "\u2028", "\\u001b", "\\u0007", "52;c") if one in shown], shown


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (SAID, "31mredthe disk is full\n\ta second line"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b\x1b[2J[2J", "[2J"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b", ""),
        ("a\rb\x08c\x7f", "abc"),
        ("grüße 👩‍🔬 \u200f", "grüße 👩‍🔬 \u200f"),
    ],
)
def test_what_is_cleaned(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned and clean(cleaned) == cleaned


def test_what_workers_report_is_stored_clean(store: Store) -> None:
    study = ready(store, limits={"attempts": 1})
    claim = claim_one(store, searches_of())
    assert tell(store, claim.lease, log=f"{SAID}\n", outcome=Failed(reason="crashed", detail=SAID, step=0))
    trial = store.read(queries.find_trial, study.id, claim.lease.number)
    assert trial.detail is not None and trial.detail.endswith("31mredthe disk is full\n\ta second line")
    with store.reading() as tx:
        attempts, chunks = queries.attempts(tx, trial.id), queries.log_chunks(tx, trial.id, 1, 0, 9)
        everything = [trial, attempts, chunks, queries.events_after(tx, study.id, 0, 100)]
    assert "the disk is full" in str(attempts) and "the disk is full" in str(chunks)
    assert_plain(everything)


def test_reasons_and_names_of_machines_are_stored_clean(store: Store) -> None:
    study = operations.fail_study(store, ready(store).id, SAID)
    assert_plain([study, store.read(queries.find_study, study.id), store.read(queries.events_after, study.id, 0, 9)])
    worker = Worker(
        id="box-1", host=f"{OBEYED}box", pid=1, slots=1, devices=(f"{OBEYED}cpu",), memory=(None,), state=WorkerState.ALIVE,
        started_at=1.0, seen_at=1.0,
    )  # fmt: skip
    operations.register_worker(store, worker)
    [found] = store.read(queries.workers)
    assert_plain(found)
    assert found == replace(worker, host="31mredbox", devices=("31mredcpu",))


def test_what_an_import_says_is_stored_clean(store: Store) -> None:
    """Sentences of a file are cleaned; the study and its numbers come as they were."""
    source = operations.stop_study(store, mixed_study(store).id)
    lines = [json.loads(line) for line in exported(store, source).splitlines()]
    lines[0] |= {"name": "again", "state": "failed", "reason": SAID}
    for line in lines[1:-1]:
        if line["kind"] == "thawline/trial":
            line |= {name: SAID for name in ("detail", "worker") if line[name] is not None}
    study = imported(store, sealed(lines))
    with store.reading() as tx:
        trials = queries.trials(tx, study.id, limit=100)
        everything = [queries.find_study(tx, study.id), trials, queries.events_after(tx, study.id, 0, 100)]
        everything += [queries.attempts(tx, trial.id) for trial in trials]
    assert_plain(everything)
    assert "the disk is full" in str(everything[0]) and "the disk is full" in str(trials)


@pytest.mark.parametrize("command", ["show", "list"])
def test_commands_clean_what_an_earlier_version_stored(
    migrated_sqlite: str, tmp_path: Any, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(migrated_sqlite)
    lab = Laboratory(store)
    lab.study()
    lab.claim()
    with store.writing() as tx:
        tx.execute(study_table.update().values(reason=SAID))
        tx.execute(text("UPDATE trial SET detail = :said, worker = :said"), {"said": SAID})
    store.close()
    with running(tmp_path, THAW_DATABASE_URL=migrated_sqlite) as server, pytest.raises(SystemExit):
        main(["--server", server.address, "study", command, *(["digits"] if command == "show" else [])])
    shown = capsys.readouterr().out
    assert "digits" in shown and ("the disk is full" in shown) == (command == "show")
    assert_plain(shown)


@pytest.mark.parametrize("character", ["\u200b", "\u200d", "\u2060", "\ufeff", "\u2028", "\u2029", "\u00ad", "\U000e0041"])
def test_a_name_has_no_character_that_makes_no_mark(store: Store, character: str) -> None:

    with pytest.raises(InvalidInput) as refusal:
        parse_study(study_document(f"di{character}gits"))
    [fault] = [fault for fault in refusal.value.faults if fault.path == ("name",)]
    assert f"U+{ord(character):04X}" in fault.message
    lines = [json.loads(line) for line in exported(store, operations.stop_study(store, mixed_study(store).id)).splitlines()]
    lines[0] |= {"name": f"digits{character}"}
    with pytest.raises(InvalidInput):
        imported(store, sealed(lines))


def test_other_writing_may_stand_in_a_name(store: Store) -> None:

    for name in ("größe", "数字", "أرقام", "двойка 2", "🔢"):
        assert parse_study(study_document(name)).name == name
