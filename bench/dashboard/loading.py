"""Measures the loading time and received bytes of both dashboards, cold and warm."""

import gc
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser

from bench.dashboard.browsing import OURS, THEIRS, Visit, opened
from bench.dashboard.serving import Server, ours, theirs
from bench.tables import table

WAIT_SECONDS = 180.0
HEAD = ["page", "n", "usable, ms", "first figure, ms", "fully drawn, ms", "longest task, ms", "data, KB", "scripts, KB", "target"]
TARGETS = {"Thawline, cold": "usable 1,000 ms, drawn 3,000 ms, data 2,000 KB", "Thawline, warm": "the same"}


class Side(NamedTuple):
    """A dashboard, and the conditions under which its page is loaded."""

    name: str
    serve: Callable[[Path], AbstractContextManager[Server]]
    conditions: dict[str, str]


SIDES = (Side("Thawline", ours, OURS), Side("optuna-dashboard", theirs, THEIRS))


def measure(browser: Browser, folder: Path, rounds: int) -> dict[str, list[Visit]]:
    """Visits by side and kind: cold is the first visit to a new server with an empty browser cache, warm the second one."""
    found: dict[str, list[Visit]] = {f"{side.name}, {kind}": [] for side in SIDES for kind in ("cold", "warm")}
    for turn in range(rounds):
        for side in SIDES if turn % 2 == 0 else reversed(SIDES):
            gc.collect()
            with side.serve(folder) as server:
                context = browser.new_context()
                for kind in ("cold", "warm"):
                    with opened(context, server.page, side.conditions, WAIT_SECONDS) as (_, visit):
                        print(f"{side.name}, {kind}: {visit}", flush=True)
                        found[f"{side.name}, {kind}"].append(visit)
                context.close()
    return found


def summary(found: dict[str, list[Visit]]) -> str:
    """The table of the visits."""
    return table(HEAD, _rows(found))


def _rows(found: dict[str, list[Visit]]) -> Iterable[list[str]]:
    for name, visits in found.items():
        columns = list(zip(*map(astuple, visits), strict=True))
        times = [_spread(column) for column in columns[:4]]
        sizes = [_spread([amount / 1000 for amount in column]) for column in columns[4:]]
        yield [name, str(len(visits)), *times, *sizes, TARGETS.get(name, "")]


def _spread(values: Sequence[float]) -> str:
    """Median, minimum and maximum, rounded to integers."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
