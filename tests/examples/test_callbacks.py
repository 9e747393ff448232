"""`thawline.callbacks` with the real libraries."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
METRICS = {
    "keras": {"loss", "accuracy", "val_loss", "val_accuracy"},
    "lightning": {"val_loss"},
    "transformers": {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"},
    "ignite": {"accuracy", "loss"},
}


@pytest.fixture(scope="module")
def fits(libraries: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `tests.examples.fits` prints."""
    command = [sys.executable, "-m", "tests.examples.fits", str(tmp_path_factory.mktemp("fits"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("library", METRICS)
def test_each_epoch_is_reported_and_a_pruned_trial_ends(fits: Any, library: str) -> None:
    trained, reports = fits[library]["trial"]
    assert trained == 4 and [report["step"] for report in reports] == [1, 2, 3, 4]
    assert all(report.keys() == {"step", *METRICS[library]} for report in reports), reports
    trained, reports = fits[library]["pruned"]
    assert trained == 2 and [report["step"] for report in reports] == [1, 2]


@pytest.mark.parametrize("library", METRICS)
def test_outside_of_a_trial_the_callbacks_do_nothing(fits: Any, library: str) -> None:
    assert fits[library]["outside"] == 4
