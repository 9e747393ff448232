"""The exported configuration of a study: of the confirmed recommendation, or of the best trial."""

from collections.abc import Mapping
from typing import Any

from service.confirmation.verdict import phase_of, recommended_trial
from service.domain.errors import NoResult
from service.domain.export import Exported
from service.domain.records import Study, Trial
from service.domain.spec import TrainingStudy
from service.domain.states import TrialState
from service.exports.configuration import Known, export, note_of
from service.store import Transaction, queries
from trainer.tasks.registry import spec_of


def exported_of(tx: Transaction, study: Study) -> tuple[Exported, Mapping[str, Any]]:
    """The current export of the study, and the result of its trial. Raises NoResult."""
    trial, verdict = recommended_trial(tx, study)
    if trial is None:
        raise NoResult
    complete = queries.counts(tx, [study.id])[study.id][TrialState.COMPLETE]
    has_test = isinstance(study.spec, TrainingStudy) and study.spec.data.has_test
    known = Known(
        note=note_of(phase_of(study), verdict, complete, spec_of(study.spec.task), has_test=has_test),
        verdict=verdict,
        repeats=queries.confirmation_trials(tx, study.id) if verdict is not None else (),
        metrics=queries.metrics(tx, _trained(tx, trial).id),
        manifest=queries.manifest(tx, study.id),
    )
    return export(study, trial, known), trial.result


def _trained(tx: Transaction, trial: Trial) -> Trial:
    """The trial itself or, for a duplicate, the trial whose result it copied."""
    return trial if trial.duplicate_of is None else queries.find_trial(tx, trial.study, trial.duplicate_of)
