"""Each attempt at a trial has its own line in the record, and its own log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select

from service import operations
from service.domain.records import Lease, Study
from service.domain.states import AttemptEnd
from service.operations import Pruned, Released, Searches, Write
from service.store import Store, attempts, queries, schema
from tests.operations.driving import (
    BROKEN,
    CRASH,
    checkpoint,
    claim_one,
    claim_trials,
    finished,
    kinds_of,
    lose,
    ready,
    report,
    searches_of,
    tell,
    trial_of,
)
from tests.operations.test_claiming_together import BYTES, lanes_ready

OUTCOMES = {
    AttemptEnd.COMPLETE: finished(0.5),
    AttemptEnd.PRUNED: Pruned("too low"),
    AttemptEnd.FAILED: BROKEN,
    AttemptEnd.RELEASED: Released(),
    AttemptEnd.CRASHED: CRASH,
}
WHY = {AttemptEnd.PRUNED: "too low", AttemptEnd.FAILED: "no accuracy", AttemptEnd.CRASHED: "signal 11"}


def endings(store: Store, lease: Lease) -> list[AttemptEnd | None]:
    return [one.ending for one in store.read(queries.attempts, lease.trial)]


def log_of(store: Store, lease: Lease) -> list[str]:
    """The text of each chunk, whose numbers are looked at on the way."""
    chunks = store.read(queries.log_chunks, lease.trial, lease.attempt, limit=10_000)
    assert [chunk.seq for chunk in chunks] == list(range(1, len(chunks) + 1))
    return [chunk.text for chunk in chunks]


@pytest.mark.parametrize("ending", OUTCOMES)
def test_an_attempt_tells_from_where_it_went_on_and_how_it_ended(
    store: Store, study: Study, searches: Searches, ending: AttemptEnd
) -> None:
    first = claim_one(store, searches, "first")
    assert tell(store, first.lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(1))
    lose(store, first)
    second = claim_one(store, searches, "second")
    running = store.read(queries.attempts, first.lease.trial)
    assert [(one.attempt, one.worker, one.resumed, one.step, one.ending) for one in running] == [
        (1, "first", 0, 2, AttemptEnd.LOST),
        (2, "second", 1, None, None),
    ]
    assert tell(store, second.lease, reports=[report(3, 0.3)], outcome=OUTCOMES[ending])
    lost, ended = store.read(queries.attempts, first.lease.trial)
    assert (ended.ending, ended.step) == (ending, 3)
    assert ended.detail == WHY.get(ending)
    assert lost.detail == "worker first stopped sending heartbeats"
    assert lost.started_at <= (lost.ended_at or 0) <= ended.started_at <= (ended.ended_at or 0)


def test_a_running_attempt_is_handed_back_when_its_study_fails(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    operations.fail_study(store, study.id, "no")
    assert endings(store, claim.lease) == [AttemptEnd.RELEASED]


@pytest.mark.parametrize("end", [operations.stop_study, operations.cancel_trial])
def test_a_running_attempt_is_cancelled_with_its_trial_or_its_study(store: Store, study: Study, searches: Searches, end: Any) -> None:
    claim = claim_one(store, searches)
    end(store, study.id, *([0] if end is operations.cancel_trial else []))
    assert endings(store, claim.lease) == [AttemptEnd.CANCELLED]


def test_trials_that_begin_and_end_together_each_have_their_attempt(store: Store, searches: Searches) -> None:
    lanes_ready(store, limits={"lanes": 5})
    claims = operations.claim_together(store, searches, "w", BYTES)
    assert operations.record(store, [Write(claim.lease, outcome=finished(0.5)) for claim in claims]) == []
    assert [endings(store, claim.lease) for claim in claims] == [[AttemptEnd.COMPLETE]] * 5


def test_a_trial_that_was_answered_had_no_attempt(store: Store) -> None:
    study, searches = ready(store, budget={"trials": 2}), searches_of(choices=1)
    assert tell(store, claim_one(store, searches).lease, outcome=finished(0.5))
    assert claim_trials(store, searches) == []
    assert store.read(queries.attempts, trial_of(store, study, 1).id) == []


def test_a_study_is_deleted_with_its_attempts_and_logs(store: Store, study: Study, searches: Searches) -> None:
    kept, gone = claim_one(store, searches), ready(store, name="gone")
    deleted = claim_one(store, searches)
    assert deleted.lease.study == gone.id
    for claim in (kept, deleted):
        assert tell(store, claim.lease, log="epoch 1\n")
    operations.delete_study(store, gone.id)
    with store.reading() as tx:
        assert [tx.scalar(select(func.count()).select_from(table)) for table in (schema.attempt, schema.log)] == [1, 1]
    assert log_of(store, kept.lease) == ["epoch 1\n"]


def test_each_attempt_has_a_log_of_its_own_and_an_event_tells_that_it_grew(store: Store, study: Study, searches: Searches) -> None:
    first = claim_one(store, searches)
    assert tell(store, first.lease, log="one\n", reports=[report(1, 0.5)])
    assert tell(store, first.lease, log="two\n")
    changed = trial_of(store, study, 0).changed
    assert tell(store, first.lease, log="last words\n", outcome=CRASH)
    second = claim_one(store, searches)
    assert tell(store, second.lease, log="one again\n")
    assert log_of(store, first.lease) == ["one\n", "two\n", "last words\n"]
    assert log_of(store, second.lease) == ["one again\n"]
    events = [one for one in store.read(queries.events_after, study.id, 0) if one.kind == "trial_logged"]
    assert [(one.body["attempt"], one.body["chunk"]) for one in events] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert changed < events[2].seq  # the log alone had changed nothing of the trial
    assert events[1].seq == changed + 1


def test_lines_that_are_told_again_are_kept_once(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, log="één\n", log_start=0)
    before = kinds_of(store, study)
    assert tell(store, lease, log="één\n", log_start=0)
    assert kinds_of(store, study) == before
    assert tell(store, lease, log="één\ntwo\n", log_start=0)
    assert tell(store, lease, log="three\n", log_start=len("één\ntwo\n".encode()))
    assert log_of(store, lease) == ["één\n", "two\n", "three\n"]


def test_a_long_text_is_split_between_its_lines(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    text = "".join(f"epoch {number}: {'é' * 100}\n" for number in range(2_000)) + "x" * 100_000 + "\n"
    assert tell(store, lease, log=text)
    chunks = log_of(store, lease)
    assert "".join(chunks) == text
    assert all(len(chunk.encode()) <= attempts.CHUNK_BYTES for chunk in chunks)
    assert all(chunk.endswith("\n") for chunk in chunks[:5])


def test_a_log_without_end_is_cut_once_and_says_so(store: Store, study: Study, searches: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "LOG_BYTES", 100)
    lease = claim_one(store, searches).lease
    for _ in range(2):
        assert tell(store, lease, log="x" * 39 + "\n")
    before = kinds_of(store, study).count("trial_logged")
    for line in ("é" * 29 + "\n", "short\n", "y" * 200 + "\n"):
        assert tell(store, lease, log=line, reports=[report(1, 0.5)])
    assert "".join(log_of(store, lease)) == ("x" * 39 + "\n") * 2 + attempts.CUT
    assert kinds_of(store, study).count("trial_logged") == before + 1
    assert tell(store, lease, log="z\n", outcome=finished(0.5))
    assert endings(store, lease) == [AttemptEnd.COMPLETE]


def test_what_no_database_takes_is_not_in_a_log(store: Store, study: Study, searches: Searches) -> None:
    lease = claim_one(store, searches).lease
    assert tell(store, lease, log="a\0b \ud800\n", reports=[report(1, 0.5)])
    assert log_of(store, lease) == ["ab ?\n"]


def test_a_report_costs_nothing_for_attempts_and_logs_and_a_batch_no_more_than_one(store: Store, searches: Searches) -> None:
    lanes_ready(store, limits={"lanes": 8})
    with statements(store) as seen:
        claims = operations.claim_together(store, searches, "w", BYTES)
        assert (len(claims), seen) == (8, ["INSERT"])
        seen.clear()
        assert operations.record(store, [Write(claim.lease, reports=[report(1, 0.5)]) for claim in claims]) == []
        assert seen == []
        assert operations.record(store, [Write(claim.lease, log="epoch 1\n") for claim in claims]) == []
        assert seen == ["SELECT", "INSERT", "UPDATE"]
        seen.clear()
        assert operations.record(store, [Write(claim.lease, outcome=finished(0.5)) for claim in claims]) == []
        assert seen == ["UPDATE"]


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """What is done to the tables of attempts and logs meanwhile, a word for each statement."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if re.search(r"(INTO|UPDATE|FROM) (attempt|log)\b", statement):
            seen.append(statement.split()[0])

    event.listen(store.engine, "before_cursor_execute", note)
    yield seen
    event.remove(store.engine, "before_cursor_execute", note)


def test_a_stale_attempt_adds_nothing_to_a_log(store: Store, study: Study, searches: Searches) -> None:
    first = claim_one(store, searches)
    lose(store, first)
    second = claim_one(store, searches)
    assert not tell(store, first.lease, log="from the grave\n")
    assert tell(store, second.lease, log="alive\n")
    assert (log_of(store, first.lease), log_of(store, second.lease)) == ([], ["alive\n"])
