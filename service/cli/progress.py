"""What is said of a study's and a trial's speed, and of the work that was spared."""

from service.answers import Study, Trial
from service.cli.console import duration


def time_left(study: Study) -> str:
    """Such as `about 3 min 20 s left`; empty when unknown."""
    return "" if study.seconds_left is None else f"about {duration(study.seconds_left)} left"


def saved(study: Study) -> str:
    """Such as `saved 40 s by stored outputs and 12 s by duplicates`; empty when it is less than a second."""
    parts = ((study.saved.features_seconds, "stored outputs"), (study.saved.duplicates_seconds, "duplicates"))
    told = [f"{duration(seconds)} by {what}" for seconds, what in parts if seconds >= 1]
    return f"saved {' and '.join(told)}" if told else ""


def speed(trial: Trial) -> str:
    """Such as `1240 images/s, 12 s left`; empty unless it runs and has said so."""
    if trial.state != "running" or trial.pace is None:
        return ""
    samples, left = trial.pace.samples_per_second, trial.pace.seconds_left
    told = ["" if samples is None else f"{samples:.0f} images/s", "" if left is None else f"{duration(left)} left"]
    return ", ".join(filter(None, told))
