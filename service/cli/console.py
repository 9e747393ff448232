"""Terminal output: console, tables, and formatting of metrics and durations."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.domain.states import TrialState
from service.domain.text import clean
from service.rest_models import ListedStudyView, TrialView

WIDE = 10_000  # columns, if the output goes to a file or a pipe, so that rich does not truncate cells


class _Console(Console):
    """Removes control characters, because names and values from the server are untrusted."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(one) if isinstance(one, str) else one for one in objects), **options)


def console() -> Console:
    """A console on standard output that does not interpret markup and removes control characters."""
    wide = None if sys.stdout.isatty() else WIDE
    return _Console(markup=False, highlight=False, emoji=False, width=wide)


def plain_text(text: str, style: str = "") -> Text:
    """Text for a table or a group, without control characters."""
    return Text(clean(text), style=style)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A table without borders."""
    head = None if title is None else plain_text(title)
    result = Table(*map(clean, columns), box=None, title=head, title_justify="left", pad_edge=False, header_style="bold")
    for row in rows:
        result.add_row(*map(plain_text, row))
    return result


def number(value: float | None) -> str:
    """A metric with four decimals, or `-`."""
    return "-" if value is None else f"{value:.4f}"


def duration(seconds: float) -> str:
    """A duration in its two largest units, such as `3 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def assignments(params: Mapping[str, Any]) -> str:
    """Parameters in one line, such as `lr=0.0013 optimizer=sgd`."""
    return " ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())


def time_left(study: ListedStudyView) -> str:
    """Such as `about 3 min 20 s left`; empty when unknown."""
    return "" if study.seconds_left is None else f"about {duration(study.seconds_left)} left"


def saved(study: ListedStudyView) -> str:
    """Such as `saved 40 s by stored outputs and 12 s by duplicates`; empty if less than a second was saved."""
    parts = ((study.saved.features_seconds, "stored outputs"), (study.saved.duplicates_seconds, "duplicates"))
    savings = [f"{duration(seconds)} by {source}" for seconds, source in parts if seconds >= 1]
    return f"saved {' and '.join(savings)}" if savings else ""


def speed(trial: TrialView, example: str) -> str:
    """Such as `1240 rows/s, 12 s left`; empty unless the trial runs and has reported its pace. `example` is a singular noun."""
    if trial.state is not TrialState.RUNNING or trial.pace is None:
        return ""
    samples, left = trial.pace.samples_per_second, trial.pace.seconds_left
    parts = ["" if samples is None else f"{samples:.0f} {example}s/s", "" if left is None else f"{duration(left)} left"]
    return ", ".join(filter(None, parts))
