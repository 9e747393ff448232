"""A study that was exported and imported is the same study."""

import io
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from service import operations
from service.domain.errors import QuotaExceeded
from service.domain.records import MetricReport
from service.domain.states import StudyState, TrialState
from service.operations import Write
from service.operations.importing import Quota, import_study
from service.store import Store, queries
from service.study_io.export import StudyLines, study_document, trial_document
from service.study_io.format import TrialLine
from service.study_io.import_ import checked, sound
from tests.operations.driving import PICTURE, WRONG, claim_one, claim_trials, searches_of, with_examples
from tests.study_io.luggage import confirmed_study, documents, exported, imported, mixed_study
from tests.web.laboratory import Laboratory


def test_export_import_and_export_again_give_the_same_lines_but_for_id_and_name(store: Store) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    first = exported(store, study)
    second = exported(store, imported(store, first, "digits again"))
    assert documents(second) == documents(first)
    assert {line["state"] for line in documents(first)[1:-1]} == {"complete", "pruned", "failed", "cancelled"}
    assert documents(first)[2]["reports"]["metrics"]["loss"] == ["pos_inf", "neg_inf", "nan"]


def test_texts_and_pictures_of_examples_come_along(store: Store) -> None:
    lab = Laboratory(store)
    study, shown = lab.study(), [WRONG | {"picture": PICTURE}, WRONG | {"text": "Grüße", "text_b": "<b>"}]
    assert operations.record(store, [Write(lab.claim().lease, outcome=with_examples(*shown))]) == []
    operations.stop_study(store, study.id)
    here = imported(store, exported(store, study), "digits again")
    assert store.read(queries.find_trial, here.id, 0).result["worst_classes"] == shown


def test_a_study_that_was_under_way_comes_stopped_and_its_open_trials_cancelled(embedded_store: Store) -> None:
    study = mixed_study(embedded_store)
    here = imported(embedded_store, exported(embedded_store, study), "digits again")
    assert (here.state, here.reason) == (StudyState.STOPPED, "imported; it had not ended")
    open_ones = [trial for trial in embedded_store.read(queries.trials, study.id) if not trial.state.terminal]
    assert len(open_ones) == 2
    for trial in open_ones:
        arrived = embedded_store.read(queries.find_trial, here.id, trial.number)
        assert (arrived.state, arrived.detail) == (TrialState.CANCELLED, "imported while open")


def test_a_confirmation_comes_along_and_is_judged_alike(store: Store) -> None:
    from service.confirmation.verdict import verdict_of

    study = confirmed_study(store)
    operations.stop_study(store, study.id)
    here = imported(store, exported(store, study), "digits again")
    assert documents(exported(store, here)) == documents(exported(store, study))
    with store.reading() as tx:
        there, again = (verdict_of(tx, queries.find_study(tx, one.id)) for one in (study, here))
    assert there is not None and there == again


def test_the_events_of_an_imported_study_tell_what_there_is(store: Store) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    here = imported(store, exported(store, study), "digits again")
    events = store.read(queries.events_after, here.id, 0, 100)
    assert [event.seq for event in events] == list(range(1, here.seq + 1))
    assert [event.kind for event in events][:2] == ["study_created", "study_checked"] and events[-1].kind == "study_stopped"
    assert [event.body["number"] for event in events if event.kind.startswith("trial_")] == list(range(here.created))


def test_a_long_trial_travels_in_several_lines(embedded_store: Store) -> None:
    lab = Laboratory(embedded_store)
    study = lab.study()
    claim = lab.claim()
    reports = [MetricReport(step, {"accuracy": step / 10_000, **({"loss": math.nan} if step % 7 else {})}) for step in range(1, 5_002)]
    operations.record(embedded_store, [Write(claim.lease, reports=reports)])
    operations.stop_study(embedded_store, study.id)
    first = exported(embedded_store, study)
    assert [line["kind"].removeprefix("thawline/") for line in documents(first)] == ["study", "trial", *["reports"] * 10, "end"]
    here = imported(embedded_store, first, "digits again")
    assert documents(exported(embedded_store, here)) == documents(first)
    trial = embedded_store.read(queries.find_trial, here.id, 0)
    assert len(embedded_store.read(queries.metrics, trial.id)) == 5_001 + sum(1 for step in range(1, 5_002) if step % 7)


def test_a_paused_import_goes_on_and_its_sampler_knows_the_trials(store: Store) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    here = imported(store, exported(store, study), "digits again", paused=True)
    assert (here.state, here.started_at) == (StudyState.PAUSED, None)
    searches = searches_of()
    assert claim_trials(store, searches, "worker-1") == []
    operations.resume_study(store, here.id)
    claim = claim_one(store, searches, "worker-1")
    assert (claim.lease.study, claim.lease.number) == (here.id, study.created)
    with searches.turn(here) as memory:
        known = memory.search.known  # type: ignore[attr-defined]
        assert known[0].value == 0.91 and len(known) == study.created


def test_no_more_studies_come_in_than_the_server_may_hold(embedded_store: Store) -> None:
    study = mixed_study(embedded_store)
    file = io.BytesIO(exported(embedded_store, study))
    with pytest.raises(QuotaExceeded):
        import_study(embedded_store, sound(file, "digits again"), file, paused=False, quota=Quota(most_studies=1))


numbers = some.floats(allow_nan=True, allow_infinity=True)
metrics = some.dictionaries(some.text(min_size=1, max_size=8).filter(lambda name: name.isprintable()), numbers, max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reported=some.lists(metrics, max_size=6), detail=some.text(max_size=50).filter(lambda text: "\0" not in text))
def test_whatever_a_trial_reported_is_what_its_line_says(embedded_store: Store, reported: list[dict[str, float]], detail: str) -> None:
    if not (found := embedded_store.read(queries.studies)):
        Laboratory(embedded_store).study()
        operations.queue_trial(embedded_store, "digits", {"lr": 0.01, "optimizer": "sgd"})
        found = embedded_store.read(queries.studies)
    study, trial = found[0], embedded_store.read(queries.find_trial, found[0].id, 0)
    reports = [MetricReport(step, values) for step, values in enumerate(reported, 1)]
    lines = StudyLines()
    whole = {**trial_document(trial, reports), "detail": detail, "step": len(reports)}
    raw = lines.line(study_document(study)) + lines.line(whole)
    (_, read) = checked(io.BytesIO(raw + lines.end()))
    assert isinstance(read, TrialLine)
    assert read.detail == detail
    again = [
        {name: column[place] for name, column in read.reports.metrics.items() if column[place] is not None} for place in range(len(reports))
    ]
    words: dict[object, float] = {"nan": math.nan, "pos_inf": math.inf, "neg_inf": -math.inf}
    assert json.dumps([{name: words.get(value, value) for name, value in sorted(row.items())} for row in again]) == json.dumps(
        [dict(sorted(report.metrics.items())) for report in reports]
    )
