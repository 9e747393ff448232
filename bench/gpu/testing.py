"""Runs the product's tests that need a GPU, and writes a row for each.

The module is also the pytest plugin that writes the rows. Tests are collected without tests/conftest.py, which imports a database's
client and skips tests of a GPU that it does not find.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu.needs import ROOT
from bench.gpu.parts import Bench, Unexpected
from bench.gpu.rows import Rows

MARK = "pytest.mark.gpu"
WHERE = "THAW_BENCH_ROWS"  # environment variable: file, part and time of the start of the run, as JSON
FAILED_TESTS = 1  # exit code of pytest if all tests ran and some failed
OPTIONS = (
    "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "bench.gpu.testing", "-m", "gpu", "-rA", "--durations=10",
)  # fmt: skip


def perform(bench: Bench) -> None:
    """Run the tests. On a CPU they are only collected."""
    # A conftest of the product's own package is read, but none above it.
    files = sorted(file.relative_to(ROOT) for file in (ROOT / "tests").rglob("test_*.py") if MARK in file.read_text())
    for folder, some in itertools.groupby(files, key=lambda file: file.parts[1]):
        log = bench.out / f"tests-{folder}.txt"
        options = [*OPTIONS, f"--confcutdir=tests/{folder}", *([] if bench.on_gpu else ["--collect-only"])]
        # Warnings of another version of torch are no errors here.
        command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-W", "default", *options, *map(str, some)]
        where = json.dumps([str(bench.rows.file), bench.part, bench.rows.started_at])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), WHERE: where}
        with log.open("w") as output:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode not in (0, FAILED_TESTS):
            raise Unexpected(f"pytest ended with exit code {done.returncode}; see {log.name}: {log.read_text()[-500:]}")


def _write(what: str, passed: bool, **values: object) -> None:
    file, part, started_at = json.loads(os.environ[WHERE])
    Rows(Path(file), started_at).add(part, what, "ok" if passed else "failed", **values)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without a GPU: write a row for each test that was found."""
    if session.config.option.collectonly:
        for item in session.items:
            _write(item.nodeid, True, outcome="collected")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the row of a test when it has ended. A skipped test has not shown anything, and counts as failed."""
    if report.when == "call" or report.outcome != "passed":
        error = {} if report.passed else {"error": report.longreprtext[-1000:]}
        _write(report.nodeid, report.passed, outcome=report.outcome, seconds=report.duration, **error)
