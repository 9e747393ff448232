"""Estimate a study's remaining time from the rate at which its trials have ended."""

from dataclasses import dataclass

from service.domain.records import Study
from service.domain.samplers import Grid
from service.domain.states import StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyProgress:
    """Recent progress of a study's trials. Times are seconds since 1970."""

    waiting: int = 0  # queued trials that need a worker
    running: int = 0
    running_since: float | None = None  # earliest start of a running trial
    running_seconds_left: float | None = None  # the largest estimate that a running trial reported
    ended: int = 0  # number of the last trials that ran and ended, at most a few hundred
    first_start: float | None = None  # of those trials
    last_end: float | None = None


def study_seconds_left(study: Study, course: StudyProgress, now: float) -> float | None:
    """Seconds until the study is complete, from the rate at which its trials end and from its hours; None when unknown or not active.

    The rate is the number of recently ended trials over the time from their first start to their last end. This holds for trials that
    ran one at a time, in parallel, or with their heads trained together.
    """
    if study.state is not StudyState.ACTIVE:
        return None
    return min((left for left in (_by_rate(study, course, now), _by_hours(study, course, now)) if left is not None), default=None)


def _by_rate(study: Study, course: StudyProgress, now: float) -> float | None:
    if study.spec.budget.trials is None:
        return None
    left = course.running_seconds_left
    spent = 0.0 if course.running_since is None else max(0.0, now - course.running_since)
    share = 0.5 if left is None else left / max(left + spent, 1e-9)  # of the running trials' work that remains
    unstarted = max(0, _most_trials(study) - study.created) + course.waiting
    if unstarted + course.running == 0:
        return 0.0
    if course.first_start is not None and course.last_end is not None:
        seconds_a_trial = max(0.0, course.last_end - course.first_start) / max(1, course.ended)
    elif left is not None and course.running:
        seconds_a_trial = (spent + left) / course.running
    else:
        return None
    return max(seconds_a_trial * (unstarted + share * course.running), left or 0.0)


def _by_hours(study: Study, course: StudyProgress, now: float) -> float | None:
    """Trials that started within the hours may end after them, so their own estimate is a lower bound."""
    hours = study.spec.budget.hours
    if hours is None or study.started_at is None:
        return None
    return max(0.0, study.started_at + study.idle_seconds + hours * 3600 - now, course.running_seconds_left or 0.0)


def _most_trials(study: Study) -> int:
    covered = study.spec.search_space.distinct if isinstance(study.spec.sampler, Grid) else study.spec.covered_configurations
    return study.spec.budget.max_trials if covered is None else min(covered, study.spec.budget.max_trials)
