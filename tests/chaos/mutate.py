"""`python -m tests.chaos.mutate [NAME...]`: plant each mutant in turn and run the scenario that must catch it.

A mutant is a module in `tests/chaos/mutants` with `SCENARIO` (what pytest runs), `plant()` (breaks the product in this process) and a
docstring that says what is broken. Ends with 1 when a scenario passes although its mutant is planted, or fails otherwise than by a check.
"""

import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos import mutants
from tests.chaos.launch import MUTANT

ROOT = Path(__file__).resolve().parents[2]
FAILED = 1  # pytest's exit code when tests failed
LIMIT_SECONDS = 300
CHECK = re.compile(r"^E .*(Assert|assert|I\d+)", re.MULTILINE)
MISFIT = re.compile(r"TypeError: plant\.<locals>\.\S+ (takes|missing|got)")  # the mutant was not adapted when its original was changed


def caught(name: str) -> bool:
    """Whether the scenario fails by an assertion while the mutant is planted, and not because the mutant cannot be called."""
    scenario = importlib.import_module(f"tests.chaos.mutants.{name}").SCENARIO
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *shlex.split(scenario)]
    started = time.monotonic()
    try:
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, MUTANT: name}, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{name:32} NOT CAUGHT in {LIMIT_SECONDS} s  {scenario}", flush=True)
        return False
    by_check = run.returncode == FAILED and CHECK.search(run.stdout) is not None and MISFIT.search(run.stdout) is None
    verdict = "caught" if by_check else f"NOT CAUGHT (exit code {run.returncode})"
    print(f"{name:32} {verdict:12} {time.monotonic() - started:5.1f} s  {scenario}", flush=True)
    if not by_check:
        print(run.stdout[-3_000:])
    return by_check


def main() -> None:
    names = sys.argv[1:] or sorted(module.name for module in pkgutil.iter_modules(mutants.__path__))
    results = [caught(name) for name in names]
    print(f"{sum(results)} of {len(results)} mutants caught")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
