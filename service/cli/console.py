"""The terminal: one console, and tables that stay whole when nobody looks at them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.domain.text import clean

WIDE = 10_000  # columns, where the output goes to a file or a pipe: nothing is cut there


class _Console(Console):
    """Removes control characters from texts, because texts from the server may be hostile."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(one) if isinstance(one, str) else one for one in objects), **options)


def console() -> Console:
    """A console on standard output, without markup: names and values are shown as they are, without control characters."""
    wide = None if sys.stdout.isatty() else WIDE
    return _Console(markup=False, highlight=False, emoji=False, width=wide)


def plain_text(text: str, style: str = "") -> Text:
    """A text for a table or a group, without control characters."""
    return Text(clean(text), style=style)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A plain table of texts."""
    head = None if title is None else plain_text(title)
    made = Table(*map(clean, columns), box=None, title=head, title_justify="left", pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*map(plain_text, row))
    return made


def number(value: float | None) -> str:
    """A metric as people read it."""
    return "-" if value is None else f"{value:.4f}"


def duration(seconds: float) -> str:
    """A time in its two largest units, such as `3 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def assignments(params: Mapping[str, Any]) -> str:
    """Parameters in one line, such as `lr=0.0013 optimizer=sgd`."""
    return " ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())
