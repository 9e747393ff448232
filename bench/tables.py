"""Markdown tables of results, with date, commit and machine, and statistics for them."""

import platform
import random
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
RESAMPLES = 2_000


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def record(title: str, body: str) -> None:
    """Append a block to RESULTS.md."""
    with RESULTS.open("a") as results:
        results.write(f"\n## {title}\n\n{body}\n")


def machine(*versions: str) -> str:
    """Date, commit (with `+` if tracked files differ from it), processors and versions."""
    commit = _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    processors = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    found = f"{len(processors)} of {processors[0]}" if processors else platform.processor()
    return ", ".join([f"{datetime.now(UTC):%Y-%m-%d}", commit, found, f"Python {platform.python_version()}", *versions])


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=RESULTS.parent).stdout.strip()


def spread(values: Sequence[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, with a fixed seed. For a single value: (value, value)."""
    generator = random.Random(0)
    means = sorted(statistics.fmean(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median, with a fixed seed."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES) - 1]


def megabytes(amount: float) -> str:
    return f"{amount / 1e6:,.0f} MB"
