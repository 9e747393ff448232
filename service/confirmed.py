"""What a study's confirmation has found so far, read from its trials."""

from typing import Literal

from service.domain.records import Study, Trial
from service.domain.states import StudyState
from service.domain.verdict import Verdict
from service.evidence.arms import arms_of
from service.evidence.verdict import judge
from service.store import Transaction, queries

Phase = Literal["none", "search", "running", "done", "stopped"]


def phase_of(study: Study) -> Phase:
    """Where the study is between its search and the end of its confirmation; `none` when it confirms nothing."""
    if study.spec.confirm is None or (study.confirmation is None and study.state.terminal):
        return "none"
    if study.confirmation is None:
        return "search"
    if study.state is StudyState.COMPLETE:
        return "done"
    return "stopped" if study.state.terminal else "running"


def verdict_of(tx: Transaction, study: Study) -> Verdict | None:
    """What the runs so far say; None before the confirmation has begun, and for a study that has none."""
    phase = phase_of(study)
    if study.confirmation is None or study.spec.confirm is None or phase == "none" or phase == "search":
        return None
    arms = arms_of(study.spec, study.confirmation, queries.numbered(tx, study.id, study.confirmation.arms), queries.repeats(tx, study.id))
    images = study.facts.images.get("test", 0) if study.facts is not None else 0
    return judge(arms, study.spec.objective, seeds=study.spec.confirm.seeds, test_images=images, state=phase)


def recommended_trial(tx: Transaction, study: Study) -> tuple[Trial | None, Verdict | None]:
    """The trial of the search whose configuration to use, with the verdict that recommends it.

    That is the confirmed recommendation once there is one. Until then it is the best of the search, and the verdict is None.
    """
    verdict = verdict_of(tx, study) if phase_of(study) == "done" else None
    if verdict is None or verdict.recommended is None:
        return queries.best_trial(tx, study), None
    (trial,) = queries.numbered(tx, study.id, [verdict.recommended])
    return trial, verdict
