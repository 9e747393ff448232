"""A confirmed study's file in use: trained, verified, tampered with, and run as a script."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.cli.console import Failure
from service.cli.training import STUDIES_SEEDS, conclusion, fresh_seed
from service.domain.export import Exported, read_export
from service.domain.verdict import Estimate
from tests.narrowed import trained
from trainer.protocol import Finished, Scores
from trainer.targets.classes.card import ClassSummary

Home = Callable[..., Any]
CLOSE = 0.03  # to the mean, of a run with another seed or on another machine


@dataclass(frozen=True)
class Confirmed:
    """The files of a small study whose best is confirmed."""

    folder: Path
    exported: Exported

    @property
    def stated(self) -> Estimate:
        """Where one run falls."""
        found = self.exported.confirmed
        assert found is not None and found.single_run is not None
        return found.single_run

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
        "fixed": {"epochs": 4, "image_size": 16, "batch_size": 32, "frozen_layers": 1, "schedule": "cosine"},
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


@pytest.fixture
def home(thaw: Callable[..., Any], served: Any) -> Home:
    """Runs `thaw` with the server's folder, whose cache knows the images."""
    return partial(thaw, "--home", served.home)


def _thaw(*arguments: object) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_says_what_its_configuration_is_worth(confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None and found.single_run is not None and found.words
    assert confirmed.exported.note.startswith("Confirmed: ")
    assert confirmed.file("best.yaml").read_text().startswith("# Confirmed: ")
    assert read_export(confirmed.file("best.json").read_text()) == confirmed.exported
    assert found.test_images == confirmed.exported.test_examples > 0 and len(found.run_seeds) == found.seeds == 3
    assert isinstance(found.summary, ClassSummary) and found.summary.by_class is not None
    assert found.summary.by_class.confusion_matrix is not None
    assert sum(map(sum, found.summary.by_class.confusion_matrix)) == found.seeds * found.test_images
    assert {"torch", "torchvision", "numpy", "pillow"} <= confirmed.exported.lock.keys()
    assert f"torch=={confirmed.exported.lock['torch']}" in confirmed.file("locked.txt").read_text().splitlines()
    assert len(confirmed.exported.curve) == 4 and confirmed.exported.curve[-1].metrics["accuracy"] == confirmed.exported.reached.value


def test_training_reaches_the_trial_again_and_says_where_the_test_score_lies_and_writes_the_card(
    home: Home, confirmed: Confirmed, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").mkdir()  # of another program
    for earlier in ("model.safetensors", "model.onnx", "model.int8.onnx"):
        (tmp_path / earlier).write_bytes(b"an earlier model")
    trained = home("train", confirmed.file("best.yaml"), "--out", tmp_path)
    assert trained.code == 0 and (tmp_path / "checkpoint").exists(), trained.err
    assert "has a model already, which is replaced" in trained.err and not [*tmp_path.glob("*.onnx")]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["equal"] is True and result["confirmed"] is True, trained.out
    reached = result["test"]["metrics"]["accuracy"]
    assert reached == pytest.approx(confirmed.stated.value, abs=CLOSE)
    assert result["within"] is (confirmed.stated.low <= reached <= confirmed.stated.high)
    where = "within" if result["within"] else "OUTSIDE"
    assert f"{where} the interval" in trained.out
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "## This model" in card and f"| test | {100 * reached:.2f} % |" in card
    assert "## This model" not in confirmed.file("card.md").read_text()


def test_a_fresh_seed_is_judged_by_the_stated_interval(home: Home, confirmed: Confirmed) -> None:
    said = home("verify", confirmed.file("best.json"), "--seed", STUDIES_SEEDS + 7)
    assert f"seed {STUDIES_SEEDS + 7}" in said.out
    reached = re.search(r"test images: accuracy (\d\.\d+), (within|OUTSIDE)", said.out + said.err)
    assert reached is not None, said.out + said.err
    assert float(reached[1]) == pytest.approx(confirmed.stated.value, abs=CLOSE)
    assert (said.code, reached[2]) in ((0, "within"), (1, "OUTSIDE"))  # 1 in 20 seeds and machines falls outside


def test_a_claim_that_does_not_hold_is_told_with_the_chance_of_it(confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None and found.single_run is not None
    for beside, holds in ((0.0, True), (-0.01, False)):
        scores = Scores(metrics={"accuracy": found.single_run.low + beside}, report={"per_class_recall": {}, "confusion_matrix": ()})
        finished = Finished(
            step=2, metrics={}, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=1, peak_memory=1, test=scores
        )
        if holds:
            assert ": verified." in conclusion(Path("best.yaml"), confirmed.exported, finished)
        else:
            with pytest.raises(Failure, match=r"(?s)OUTSIDE.*1 of 20.*thaw verify best.yaml --seed \d+"):
                conclusion(Path("best.yaml"), confirmed.exported, finished)


def test_a_file_without_an_interval_is_refused_with_the_remedy(home: Home, confirmed: Confirmed) -> None:
    said = home("verify", confirmed.changed("plain.yaml", confirmed=None, note="Not confirmed: a test."))
    assert said.code == 2 and "#/confirmed" in said.err and "confirm: {top: 3, seeds: 5}" in said.err


def test_an_interval_that_contains_every_score_is_refused_before_a_run(home: Home, confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None
    whole = found.model_copy(update={"single_run": Estimate(value=0.7, low=0.0, high=1.0)})
    said = home("verify", confirmed.changed("whole.yaml", confirmed=whole))
    assert said.code == 1 and said.out == ""
    assert "The interval stated for one run, 0.0000 to 1.0000, contains every possible accuracy, so a run confirms nothing." in said.err
    assert "confirm: {top: 3, seeds: 5}" in said.err and "at least 3 seeds" in said.err


def test_a_score_within_an_interval_from_two_runs_is_not_called_verified(confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None
    exported = confirmed.exported.model_copy(update={"confirmed": found.model_copy(update={"seeds": 2})})
    report: dict[str, Any] = {"per_class_recall": {}, "confusion_matrix": ()}
    scores = Scores(metrics={"accuracy": confirmed.stated.value}, report=report)
    sentence = conclusion(
        Path("best.yaml"), exported, Finished(step=2, metrics={}, report=report, train_seconds=1, peak_memory=1, test=scores)
    )
    assert "within the interval" in sentence and "verified" not in sentence
    assert "This is weak evidence, because an interval from two runs is wide." in sentence


def test_a_seed_that_the_study_had_proves_nothing(home: Home, confirmed: Confirmed) -> None:
    found = confirmed.exported.confirmed
    assert found is not None
    for seed in (confirmed.exported.config.seed, found.run_seeds[0]):
        said = home("verify", confirmed.file("best.yaml"), "--seed", seed)
        assert said.code == 1 and f"seed {seed}" in said.err and "use another seed" in said.err
    assert all(fresh_seed() >= STUDIES_SEEDS for _ in range(100))


@pytest.fixture
def elsewhere(confirmed: Confirmed, tmp_path: Path) -> Path:
    """A file whose images and weights are copies, which can be tampered with."""
    shutil.copytree(confirmed.file("digits"), tmp_path / "digits")
    shutil.copy(confirmed.file("small_cnn.safetensors"), tmp_path / "small_cnn.safetensors")
    config = confirmed.exported.config
    data = trained(config).data.model_copy(update={"path": str(tmp_path / "digits")})
    model = trained(config).model.model_copy(update={"weights": str(tmp_path / "small_cnn.safetensors")})
    moved = confirmed.exported.model_copy(update={"config": config.model_copy(update={"data": data, "model": model})})
    (tmp_path / "best.yaml").write_text(moved.to_yaml())
    return tmp_path


def test_changed_images_and_labels_are_refused_by_name_before_anything_is_trained(home: Home, elsewhere: Path) -> None:
    changed, relabelled = sorted((elsewhere / "digits" / "5").iterdir())[3:5]
    changed.write_bytes(changed.read_bytes() + b"\0")
    relabelled.rename(elsewhere / "digits" / "6" / relabelled.name)
    said = home("verify", elsewhere / "best.yaml")
    assert said.code == 1 and "bad_data" in said.err and "epoch" not in said.out
    assert f"5/{changed.name}" in said.err and f"6/{relabelled.name}" in said.err, said.err


def test_a_changed_weights_file_is_refused_by_name_before_anything_is_trained(home: Home, elsewhere: Path) -> None:
    weights = elsewhere / "small_cnn.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = home("train", elsewhere / "best.yaml", "--out", elsewhere / "out")
    assert said.code == 1 and "bad_data" in said.err and str(weights) in said.err and "epoch" not in said.out
    assert not (elsewhere / "out" / "model.safetensors").exists()


def test_the_script_of_a_network_that_torchvision_lacks_trains_as_thaw_train_does(
    confirmed: Confirmed, served: Any, tmp_path: Path
) -> None:
    text = confirmed.file("train.py").read_text()
    assert "torchvision has no network small_cnn" in text
    environment = {**os.environ, "THAW_HOME": str(served.home)}
    command = [sys.executable, "-P", "train.py", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=confirmed.folder, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["equal"] is True and (tmp_path / "model.safetensors").stat().st_size > 100_000
    assert result["within"] is (confirmed.stated.low <= result["test"]["metrics"]["accuracy"] <= confirmed.stated.high)
