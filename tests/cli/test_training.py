"""A confirmed study's file in use: trained, verified, tampered with, and run as a script without Thawline."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.cli.failures import Failure
from service.cli.verifying import STUDIES_SEEDS, conclusion, fresh_seed
from service.domain.export import Exported, read_export
from trainer.contract import Finished, Scores

Thaw = Callable[..., Any]
BLOCKED = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trainer", "service", "search_spaces", "safetensors", "pydantic"):
            raise ImportError(f"the script must do without {name}")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Confirmed:
    """The files of a small study whose best is confirmed."""

    folder: Path
    exported: Exported

    def file(self, name: str) -> Path:
        return self.folder / name

    def changed(self, name: str, **changes: Any) -> Path:
        """The file with other fields."""
        (self.folder / name).write_text(self.exported.model_copy(update=changes).to_yaml())
        return self.folder / name


@pytest.fixture(scope="module")
def confirmed(served: Any, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Confirmed:
    """A study on a copy of the digits, searched and confirmed by the server's worker, and exported in every format."""
    folder = tmp_path_factory.mktemp("confirmed")
    shutil.copytree(demo_data / "digits", folder / "digits")
    shutil.copy(demo_data / "small_cnn.safetensors", folder)
    study = {
        "name": "confirmed", "data": {"path": "digits", "validation": 0.2, "test": 0.3},
        "model": {"name": "small_cnn", "weights": "small_cnn.safetensors"},
        "search_space": {"lr": {"type": "float", "low": 0.003, "high": 0.1, "log": True}},
        "fixed": {"epochs": 2, "image_size": 16, "batch_size": 64, "frozen_layers": 1, "augmentation": "crop", "augmentation_views": 2},
        "sampler": {"name": "random"}, "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 2}, "confirm": {"top": 1, "seeds": 3},
    }  # fmt: skip
    (folder / "study.yaml").write_text(json.dumps(study))
    _thaw("--server", served.address, "study", "create", folder / "study.yaml", "--watch")
    for form, name in (
        ("yaml", "best.yaml"),
        ("json", "best.json"),
        ("python", "train.py"),
        ("card", "card.md"),
        ("requirements", "locked.txt"),
    ):
        _thaw("--server", served.address, "best", "confirmed", "--format", form, "-o", folder / name)
    return Confirmed(folder, read_export((folder / "best.yaml").read_text()))


def _thaw(*arguments: object) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def run_alone(confirmed: Confirmed, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The script in an interpreter that cannot import anything of ours, and sees no variable of ours."""
    (confirmed.folder / "blocked.py").write_text(BLOCKED)
    environment = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", *launcher, "blocked.py", "train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=confirmed.folder, capture_output=True, text=True, timeout=180, env=environment)


def test_the_file_says_what_its_configuration_is_worth(confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None and found.single_run is not None and found.words
    assert confirmed.exported.note.startswith("Confirmed: ")
    assert confirmed.file("best.yaml").read_text().startswith("# Confirmed: ")
    assert read_export(confirmed.file("best.json").read_text()) == confirmed.exported
    assert found.test_images == confirmed.exported.facts.images["test"] > 0 and len(found.run_seeds) == found.seeds == 3
    assert found.by_class is not None and found.by_class.confusion_matrix is not None
    assert sum(map(sum, found.by_class.confusion_matrix)) == found.seeds * found.test_images
    assert {"torch", "torchvision", "numpy", "pillow"} <= confirmed.exported.lock.keys()
    assert f"torch=={confirmed.exported.lock['torch']}" in confirmed.file("locked.txt").read_text().splitlines()
    assert len(confirmed.exported.curve) == 2 and confirmed.exported.curve[-1].metrics["accuracy"] == confirmed.exported.reached.value


def test_training_reaches_the_trial_and_lies_within_the_interval_and_writes_the_card(
    thaw: Thaw, confirmed: Confirmed, tmp_path: Path
) -> None:
    trained = thaw("train", confirmed.file("best.yaml"), "--out", tmp_path)
    assert trained.code == 0, trained.err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["equal"] is True and result["confirmed"] is True and result["within"] is True, trained.out
    assert "within the interval" in trained.out
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "## This model" in card and "The test score lies within the stated interval of one run." in card
    assert "## This model" not in confirmed.file("card.md").read_text()


def test_a_fresh_seed_falls_within_the_stated_interval(thaw: Thaw, confirmed: Confirmed) -> None:
    said = thaw("verify", confirmed.file("best.json"), "--seed", STUDIES_SEEDS + 7)
    assert said.code == 0, said.err + said.out
    assert f"seed {STUDIES_SEEDS + 7}" in said.out and "it holds what it states" in said.out


def test_a_claim_that_does_not_hold_is_told_with_the_chance_of_it(confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None and found.single_run is not None
    for beside, holds in ((0.0, True), (-0.01, False)):
        scores = Scores(metrics={"accuracy": found.single_run.low + beside}, per_class_recall={}, confusion_matrix=())
        finished = Finished(step=2, metrics={}, per_class_recall={}, confusion_matrix=(), train_seconds=1, peak_memory=1, test=scores)
        if holds:
            assert "it holds what it states" in conclusion(Path("best.yaml"), confirmed.exported, finished)
        else:
            with pytest.raises(Failure, match=r"(?s)OUTSIDE.*1 in 20.*thaw verify best.yaml --seed \d+"):
                conclusion(Path("best.yaml"), confirmed.exported, finished)


def test_a_file_without_an_interval_is_refused_with_the_remedy(thaw: Thaw, confirmed: Confirmed) -> None:
    said = thaw("verify", confirmed.changed("plain.yaml", confirmed=None, note="Not confirmed: a test."))
    assert said.code == 2 and "#/confirmed" in said.err and "confirm: {top: 3, seeds: 5}" in said.err


def test_a_seed_that_the_study_had_proves_nothing(thaw: Thaw, confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None
    for seed in (confirmed.exported.config.seed, found.run_seeds[0]):
        said = thaw("verify", confirmed.file("best.yaml"), "--seed", seed)
        assert said.code == 1 and f"seed {seed}" in said.err and "another one" in said.err
    assert all(fresh_seed() >= STUDIES_SEEDS for _ in range(100))


@pytest.mark.parametrize(("command", "what"), [("verify", "image"), ("train", "label"), ("verify", "weights")])
def test_what_was_tampered_with_is_refused_by_name_before_anything_is_trained(
    thaw: Thaw, confirmed: Confirmed, tmp_path: Path, command: str, what: str
) -> None:
    data, weights = tmp_path / "digits", tmp_path / "small_cnn.safetensors"
    shutil.copytree(confirmed.file("digits"), data)
    shutil.copy(confirmed.file("small_cnn.safetensors"), weights)
    image = sorted((data / "5").iterdir())[3]
    match what:
        case "image":
            image.write_bytes(image.read_bytes() + b"\0")
            named = f"5/{image.name}"
        case "label":
            image.rename(data / "6" / image.name)
            named = f"6/{image.name}"
        case _:
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
            named = str(weights)
    config = confirmed.exported.config
    moved = config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": str(data)}),
            "model": config.model.model_copy(update={"weights": str(weights)}),
        }
    )
    said = thaw(command, confirmed.changed(f"{what}.yaml", config=moved), *(("--out", tmp_path / "out") if command == "train" else ()))
    assert said.code == 1 and "bad_data" in said.err and named in said.err, said.err
    assert not (tmp_path / "out" / "model.safetensors").exists() and "epoch 1/" not in said.out


def test_the_script_reaches_the_stated_interval_and_the_trials_figure_without_anything_of_ours(
    confirmed: Confirmed, tmp_path: Path
) -> None:
    done = run_alone(confirmed, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["within"] is True and "within the stated interval" in done.stdout
    assert result["validation"]["accuracy"] == pytest.approx(confirmed.exported.reached.value, abs=0.02)
    assert (tmp_path / "model.pt").stat().st_size > 100_000


def test_the_script_divides_its_batches_among_the_processes_of_torchrun(confirmed: Confirmed, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run_alone(confirmed, "--out", tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["processes"] == 2 and result["within"] is True
    assert done.stdout.count("epoch 2/2") == 1
