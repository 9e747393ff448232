"""An import is written in several transactions and becomes visible with the last one."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event, func, select

from service import operations
from service.domain.errors import DiskFull, ImportGivenUp, NameTaken, QuotaExceeded, StudyNotFound
from service.domain.parsing import parse_study
from service.domain.records import Study, Worker
from service.domain.states import StudyState
from service.operations import Idempotency, Replay, importing
from service.operations.importing import Quota, import_study
from service.store import Store, Transaction, dialects, open_store, queries, registry
from service.store.dialects import MetricRow
from service.store.schema import event as event_table
from service.store.schema import metric, study, trial
from service.study_io.import_ import sound
from service.web.health import TIDY_SECONDS, Cleanup
from service.web.study_io import pieces
from tests.operations.driving import claim_trials, searches_of, sweep_all
from tests.study_io.luggage import documents, sealed
from tests.web.laboratory import study_document

AT = "2026-11-22T09:30:00.000000Z"
STEPS = 5


def study_file(trials: int = 7, name: str = "large", metrics: int = 4) -> bytes:
    """A study's file: each trial reports so many metrics at five steps."""
    spec = parse_study(study_document(name)).model_dump(mode="json")
    first = {
        "kind": "thawline/study", "schema_version": 1, "id": None, "name": name, "state": "stopped", "reason": None, "spec": spec,
        "facts": None, "confirmation": None, "created": trials, "created_at": AT, "started_at": AT, "finished_at": AT,
    }  # fmt: skip
    reports = {"steps": list(range(1, STEPS + 1)), "metrics": {f"m{number}": [0.5] * STEPS for number in range(metrics)}}
    lines = [
        {
            "kind": "thawline/trial", "number": number, "state": "complete", "params": {"lr": 0.01, "optimizer": "sgd"}, "value": 0.5,
            "metrics": {"accuracy": 0.5}, "step": STEPS, "attempt": 1, "reason": None, "detail": None, "worker": "w",
            "duplicate_of": None, "source": "sampler", "confirms": None, "round": None, "result": {}, "queued_at": AT,
            "started_at": AT, "finished_at": AT, "reports": reports,
        }
        for number in range(trials)
    ]  # fmt: skip
    return sealed([first, *lines, {"kind": "thawline/end"}])


@dataclass
class Transactions:
    """The metric rows that each writing transaction inserted, and whether it inserted trials."""

    rows: list[int] = field(default_factory=list)
    trials: list[bool] = field(default_factory=list)
    between: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """A transaction begins; nothing is locked yet."""
        self.between()
        self.rows.append(0)
        self.trials.append(False)


@contextmanager
def counted(store: Store, between: Callable[[], None] = lambda: None) -> Iterator[Transactions]:
    """Counts writing transactions of this store and the trials and metrics they insert; `between` runs before each."""
    found, plain = Transactions(between=between), store.writing

    def insert(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO trial"):
            found.trials[-1] = True

    def insert_metrics(tx: Transaction, rows: Sequence[MetricRow]) -> None:
        found.rows[-1] += len(rows)
        dialects.insert_metrics(tx, rows)

    @contextmanager
    def writing() -> Iterator[object]:
        found.begin()
        with plain() as tx:
            yield tx

    event.listen(store.engine, "before_cursor_execute", insert)
    importing.insert_metrics = insert_metrics  # type: ignore[attr-defined]
    store.writing = writing  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        del store.writing
        importing.insert_metrics = dialects.insert_metrics  # type: ignore[attr-defined]
        event.remove(store.engine, "before_cursor_execute", insert)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows in a transaction, so that a small file takes several."""
    monkeypatch.setattr(importing, "ROWS", 16)
    monkeypatch.setattr(importing, "TRIALS", 3)


def brought(store: Store, raw: bytes, quota: Quota = importing.UNLIMITED, key: Idempotency | None = None) -> Study:
    file = io.BytesIO(raw)
    return import_study(store, sound(file), file, paused=False, quota=quota, idempotency=key)


def rows_left(store: Store) -> tuple[int, ...]:
    """How many studies, trials, metrics and events the tables hold, whoever may see them."""
    with store.reading() as tx:
        return tuple(tx.scalar(select(func.count()).select_from(table)) or 0 for table in (study, trial, metric, event_table))


def is_visible(store: Store, name: str) -> bool:
    """Whether any of the reads shows the study."""
    with store.reading() as tx:
        listed = any(one.name == name for one in queries.studies(tx))
        states, trials = queries.totals(tx)
        counted_somewhere = queries.count_studies(tx) or sum(states.values()) or sum(trials.values())
        try:
            queries.find_study(tx, name)
        except StudyNotFound:
            assert not listed and not counted_somewhere and not queries.saved_seconds(tx) and not queries.candidates(tx)
            return False
    return True


@pytest.mark.usefixtures("small_pieces")
def test_no_transaction_of_an_import_writes_more_rows_than_its_bound(store: Store) -> None:
    with counted(store) as transactions:
        here = brought(store, study_file(trials=7, metrics=4))
    assert max(transactions.rows) <= 16
    assert len(transactions.rows) >= 3 + 7 * 20 // 16
    assert here.created == 7 and store.read(queries.count_studies) == 1
    assert rows_left(store) == (1, 7, 7 * 20, 1 + 7 + 1)


def test_one_line_with_more_rows_than_the_bound_is_divided(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ROWS", 8)
    with counted(store) as transactions:
        brought(store, study_file(trials=1, metrics=20))
    assert max(transactions.rows) == 8 and sum(transactions.rows) == 100


def test_trials_with_long_results_are_divided_by_their_bytes(embedded_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BYTES", 1)
    with counted(embedded_store) as transactions:
        brought(embedded_store, study_file(trials=5))
    assert transactions.trials.count(True) == 5


@pytest.mark.usefixtures("small_pieces")
def test_between_two_transactions_others_read_and_write_and_see_nothing_of_it(store: Store, database_url: str) -> None:
    other = open_store(database_url)
    seen = list[bool]()

    def look() -> None:
        seen.append(is_visible(other, "large"))
        operations.try_to_write(other)
        assert claim_trials(other, searches_of(), "worker-1") == [] and other.read(queries.unchecked_study) is None

    with counted(store, look):
        brought(store, study_file())
    assert len(seen) > 8 and not any(seen)
    assert is_visible(other, "large")
    other.close()


@pytest.mark.usefixtures("small_pieces")
def test_the_name_is_taken_from_the_first_transaction_on(store: Store) -> None:
    refused = list[bool]()

    def create_alike() -> None:
        with store.reading() as tx:
            reserved = queries.is_being_imported(tx, "large")
        if reserved and not refused:
            refused.append(True)
            with pytest.raises(NameTaken):
                operations.create_study(store, parse_study(study_document("large")))
            with pytest.raises(NameTaken):
                brought(store, study_file())
            with pytest.raises(StudyNotFound):
                operations.delete_study(store, "large")

    with counted(store, create_alike):
        brought(store, study_file())
    assert refused and store.read(queries.find_study, "large").created == 7


@pytest.mark.usefixtures("small_pieces")
def test_an_import_that_fails_leaves_nothing_visible_and_its_rows_are_swept(store: Store) -> None:
    calls = list[int]()

    def require_room() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise DiskFull("full")

    with pytest.raises(DiskFull):
        brought(store, study_file(), Quota(require_room=require_room))
    assert not is_visible(store, "large") and rows_left(store)[1] > 0
    operations.create_study(store, parse_study(study_document("large")))  # the name is free at once
    operations.delete_study(store, "large")
    sweep_all(store)
    assert rows_left(store) == (0, 0, 0, 0)


@pytest.mark.usefixtures("small_pieces")
def test_what_a_killed_process_left_of_an_import_is_swept_after_a_minute_without_progress(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(importing._Writing, "publish", die)
    monkeypatch.setattr(importing, "_give_up", lambda *_: None)  # the process is gone before it can say so
    with pytest.raises(Killed):
        brought(store, study_file())
    now = [0.0]
    tidying = Cleanup(store, lambda: now[0])
    tidying.sweep()
    assert rows_left(store)[1] == 7 and not is_visible(store, "large")
    now[0] = TIDY_SECONDS / 2
    tidying.sweep()
    assert rows_left(store)[1] == 7
    now[0] = TIDY_SECONDS
    tidying.sweep()
    assert rows_left(store) == (0, 0, 0, 0)


@pytest.mark.usefixtures("small_pieces")
def test_an_import_that_was_given_up_writes_no_more(store: Store) -> None:
    looks = list[dict[str, int]]()

    def sweep() -> None:
        looks.append(store.read(registry.hidden_studies))
        if len(looks) == 6:
            with Store.writing(store) as tx:
                registry.give_up_import(tx, next(iter(looks[-1])))

    with counted(store, sweep), pytest.raises(ImportGivenUp):
        brought(store, study_file())
    assert not is_visible(store, "large")
    while operations.remove_hidden(store):
        pass
    assert rows_left(store) == (0, 0, 0, 0)


@pytest.mark.usefixtures("small_pieces")
def test_a_sweep_leaves_an_import_alone_that_makes_progress(store: Store) -> None:
    seen, looks = dict[str, int](), 0

    def sweep() -> None:
        nonlocal seen, looks
        plain = seen
        now = store.read(registry.hidden_studies)
        assert all(writes >= 0 and plain.get(key) != writes for key, writes in now.items())
        seen, looks = now, looks + bool(now)

    with counted(store, sweep):
        brought(store, study_file())
    assert looks > 1
    assert store.read(queries.find_study, "large").state is StudyState.STOPPED


def test_the_quota_is_held_and_an_import_under_way_counts_for_nobody(embedded_store: Store) -> None:
    raw = study_file()
    brought(embedded_store, raw, Quota(most_studies=1))
    with pytest.raises(QuotaExceeded):
        brought(embedded_store, study_file(name="other"), Quota(most_studies=1))


@pytest.mark.usefixtures("small_pieces")
def test_a_repetition_with_the_same_key_waits_for_the_import_and_gets_its_answer(store: Store, database_url: str) -> None:
    raw, answers = study_file(), list[str]()
    started = threading.Event()

    def key() -> Idempotency:
        return Idempotency("k", "0" * 64, lambda _tx, one: f"study {one.id}")

    def repeat() -> None:
        other = open_store(database_url)
        try:
            brought(other, raw, key=key())
        except Replay as replay:
            answers.append(replay.answer)
        finally:
            other.close()

    second = threading.Thread(target=repeat)

    def begin_second() -> None:
        if store.read(registry.hidden_studies) and not started.is_set():
            started.set()
            second.start()

    with counted(store, begin_second):
        here = brought(store, raw, key=key())
    second.join(timeout=120)
    assert answers == [f"study {here.id}"] and store.read(queries.count_studies) == 1


@pytest.mark.usefixtures("small_pieces")
def test_a_study_in_pieces_is_the_study_of_the_file(store: Store) -> None:
    raw = study_file(trials=11)
    here = brought(store, raw)
    again = b"".join(pieces(store, here))
    assert documents(again)[1:-1] == documents(raw)[1:-1]


def test_workers_that_were_seen_last_a_month_ago_are_forgotten(store: Store) -> None:
    now = time.time()
    for name, days in (("old", 31), ("young", 29)):
        seen = now - days * 86_400
        one = Worker(id=name, host="box", pid=1, slots=1, devices=("cpu",), state="gone", started_at=seen, seen_at=seen)
        operations.register_worker(store, one)
    sweep_all(store)
    assert [one.id for one in store.read(queries.workers)] == ["young"]


def test_idempotency_keys_are_bounded_in_number_and_in_the_length_of_their_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST_KEYS", 3)
    for number in range(5):
        with store.writing() as tx:
            registry.reserve_key(tx, f"k{number}", "0" * 64)
            registry.answer_key(tx, f"k{number}", "x" * 10, None)
    sweep_all(store)
    kept = {f"k{n}" for n in range(5) if store.read(queries.find_answer, f"k{n}", "0" * 64)}
    assert kept == {"k2", "k3", "k4"}
    monkeypatch.setattr(registry, "MOST_ANSWERS", 25)
    monkeypatch.setattr(registry, "LONG_ANSWER", 5)  # bounded at once
    with store.writing() as tx:
        registry.reserve_key(tx, "last", "0" * 64)
        registry.answer_key(tx, "last", "x" * 10, None)
    kept = {key for key in ("k2", "k3", "k4", "last") if store.read(queries.find_answer, key, "0" * 64)}
    assert kept == {"k4", "last"}
