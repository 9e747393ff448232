"""What is said of a study's and a trial's speed, and of the work that was spared."""

from service.cli.console import duration
from service.domain.states import TrialState
from service.rest_models import ListedStudyView, TrialView


def time_left(study: ListedStudyView) -> str:
    """Such as `about 3 min 20 s left`; empty when unknown."""
    return "" if study.seconds_left is None else f"about {duration(study.seconds_left)} left"


def saved(study: ListedStudyView) -> str:
    """Such as `saved 40 s by stored outputs and 12 s by duplicates`; empty when it is less than a second."""
    parts = ((study.saved.features_seconds, "stored outputs"), (study.saved.duplicates_seconds, "duplicates"))
    told = [f"{duration(seconds)} by {what}" for seconds, what in parts if seconds >= 1]
    return f"saved {' and '.join(told)}" if told else ""


def speed(trial: TrialView, example: str) -> str:
    """Such as `1240 examples/s, 12 s left`, in the noun for one; empty unless it runs and has said so."""
    if trial.state is not TrialState.RUNNING or trial.pace is None:
        return ""
    samples, left = trial.pace.samples_per_second, trial.pace.seconds_left
    told = ["" if samples is None else f"{samples:.0f} {example}s/s", "" if left is None else f"{duration(left)} left"]
    return ", ".join(filter(None, told))
