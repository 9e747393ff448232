"""A study's file, read from the store a part at a time."""

from collections.abc import Iterator

from service.domain.errors import StudyNotFound
from service.domain.records import Study
from service.store import Store, queries
from service.study_io.export import Lines, reports_document, study_document, trial_document
from service.study_io.format import CHUNK_STEPS

PAGE_TRIALS = 16  # in one transaction, with the reports of their first steps
PART_STEPS = 8 * CHUNK_STEPS  # of a long trial in one transaction


def pieces(store: Store, study: Study) -> Iterator[bytes]:
    """The study's file, a line at a time; no transaction is open between two. Raises StudyNotFound when it is deleted meanwhile."""
    lines = Lines()
    yield lines.line(study_document(study))
    for first in range(0, study.created, PAGE_TRIALS):
        with store.reading() as tx:
            trials = queries.trials_between(tx, study.id, first, min(first + PAGE_TRIALS, study.created))
            reports = queries.reports_between(tx, trials, 0, CHUNK_STEPS)
        if not trials:
            raise StudyNotFound(study.id)
        for trial in trials:
            yield lines.line(trial_document(trial, reports.get(trial.id, ())))
            for after in range(CHUNK_STEPS, trial.step, PART_STEPS):
                later = store.read(queries.reports_between, [trial], after, after + PART_STEPS).get(trial.id, [])
                for start in range(0, len(later), CHUNK_STEPS):
                    yield lines.line(reports_document(trial, later[start : start + CHUNK_STEPS]))
    yield lines.end()
