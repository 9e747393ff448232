"""The state of a study's confirmation and its verdict so far, read from the store."""

from service.confirmation.race import arms_of
from service.confirmation.verdict import judge
from service.domain.records import Study, Trial
from service.domain.states import Phase, StudyState
from service.domain.verdict import Verdict, constant_of
from service.store import Transaction, queries
from trainer.tasks.registry import spec_of


def phase_of(study: Study) -> Phase:
    """The study's phase, from the search to the end of the confirmation; `none` for a study without confirmation."""
    if study.spec.confirm is None or (study.confirmation is None and study.state.terminal):
        return "none"
    if study.confirmation is None:
        return "search"
    if study.state is StudyState.COMPLETE:
        return "done"
    return "stopped" if study.state.terminal else "running"


def verdict_of(tx: Transaction, study: Study) -> Verdict | None:
    """The verdict from the runs so far; None before the confirmation begins, and for a study without one."""
    phase = phase_of(study)
    if study.confirmation is None or study.spec.confirm is None or phase == "none" or phase == "search":
        return None
    examples = study.facts.sizes.get("test", 0) if study.facts is not None else 0
    searched, repeats = queries.trials_numbered(tx, study.id, study.confirmation.arms), queries.confirmation_trials(tx, study.id)
    arms, task = arms_of(study.spec, study.confirmation, searched, repeats, examples), spec_of(study.spec.task)
    verdict = judge(arms, study.spec.objective, task=task, seeds=study.spec.confirm.seeds, test_examples=examples, state=phase)
    constant = constant_of(study.facts, "test", study.spec.objective.metric)
    comparison = constant.confirmed(verdict) if constant is not None else None
    return verdict if comparison is None else verdict.model_copy(update={"words": (*verdict.words, comparison)})


def recommended_trial(tx: Transaction, study: Study) -> tuple[Trial | None, Verdict | None]:
    """The trial of the search with the recommended configuration, and the verdict that recommends it.

    Without a completed confirmation, this is the best trial of the search, and the verdict is None.
    """
    verdict = verdict_of(tx, study) if phase_of(study) == "done" else None
    if verdict is None or verdict.recommended is None:
        return queries.best_trial(tx, study), None
    (trial,) = queries.trials_numbered(tx, study.id, [verdict.recommended])
    return trial, verdict
