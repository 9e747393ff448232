"""Text in figures: Plotly reads a few tags and entities in it, so what people wrote is escaped."""

import html
import json
import re
from collections.abc import Mapping, Sequence

from search_spaces import Categorical, Scalar
from trainer.tasks.base import Metric

LONGEST = 40  # characters of a choice; it may have 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text as Plotly shows it letter by letter."""
    return html.escape(text, quote=False)


def number_text(value: float) -> str:
    """The number in four digits."""
    return f"{value:.4g}"


def value_text(metric: Metric, value: float | None) -> str:
    """A metric's value as the pages show it."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if metric.is_share else number_text(value)


def tick_format(metric: Metric) -> str | None:
    """How an axis of the metric is labelled, in d3's words; None leaves it to Plotly."""
    return ".4~p" if metric.is_share else None


class Choices:
    """The choices of a categorical parameter as labels that differ from each other, so that `1`, `1.0` and `"1"` stay three things."""

    def __init__(self, parameter: Categorical) -> None:
        self._labels = {(type(choice), choice): "" for choice in parameter.choices}
        taken = set[str]()
        for key in self._labels:
            self._labels[key] = label = _distinct(_label(key[1]), key[1], taken)
            taken.add(label)

    def label(self, choice: Scalar) -> str:
        """The choice's label, not escaped."""
        return self._labels.get((type(choice), choice)) or _label(choice)

    def knows(self, choice: Scalar) -> bool:
        """Whether it is one of them."""
        return (type(choice), choice) in self._labels

    @property
    def labels(self) -> Sequence[str]:
        """All of them, in the order of the choices."""
        return list(self._labels.values())


def scalar_text(choices: Mapping[str, Choices], name: str, value: Scalar) -> str:
    """A parameter's value in a line of words, not escaped."""
    if name in choices:
        return choices[name].label(value)
    return number_text(value) if isinstance(value, float) else str(value)


def _label(choice: Scalar) -> str:
    if not isinstance(choice, str):
        return json.dumps(choice)
    text = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", choice)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return text if text.strip() else f'"{text}"'


def _distinct(label: str, choice: Scalar, taken: set[str]) -> str:
    if label in taken and isinstance(choice, str):
        label = f'"{label}"'
    wanted, count = label, 1
    while label in taken:
        count += 1
        label = f"{wanted} ({count})"
    return label
