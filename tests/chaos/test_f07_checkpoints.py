"""F7: checkpoints are damaged, exchanged and forged between two attempts."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from service.domain.records import Trial
from service.domain.states import TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import Lab
from trainer.checkpoints import Checkpoints
from trainer.loop import train
from trainer.protocol import Checkpoint, CheckpointSaved, EpochMetrics, Finished
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

PAGE = 4_096
EPOCHS = 4
Damage = Callable[[Path, "Folder"], None]


@dataclass(frozen=True)
class Folder:
    """What else lies on the disk beside the checkpoint that is damaged."""

    before: Path  # the one before it, of the same run
    foreign: Path  # of another run, after the same epoch
    trap: Path  # a file that must never come to be


def cut_to(share: float) -> Damage:
    return lambda file, _: os.truncate(file, int(file.stat().st_size * share))


def overwrite(file: Path, place: int, change: Callable[[bytes], bytes], size: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:place] + change(content[place : place + size]) + content[place + size :])


def flip_a_byte(file: Path, _: Folder) -> None:
    overwrite(file, file.stat().st_size // 2, lambda old: bytes([old[0] ^ 0x10]), 1)


def zero_a_page(file: Path, _: Folder) -> None:
    overwrite(file, PAGE if file.stat().st_size > 2 * PAGE else 0, lambda old: bytes(len(old)), PAGE)


def remove(file: Path, _: Folder) -> None:
    file.unlink()


def exchange_for_the_one_before(file: Path, folder: Folder) -> None:
    file.write_bytes(folder.before.read_bytes())


def exchange_for_another_trials(file: Path, folder: Folder) -> None:
    file.write_bytes(folder.foreign.read_bytes())


EVERYWHERE: dict[str, Damage] = {
    "cut to nothing": cut_to(0), "cut to half": cut_to(0.5), "cut to 99 %": cut_to(0.99), "a byte flipped": flip_a_byte,
    "a page zeroed": zero_a_page, "missing": remove, "exchanged for the one before": exchange_for_the_one_before,
    "exchanged for another trial's": exchange_for_another_trials,
}  # fmt: skip


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.trap, "pwned")


def put_a_bomb(file: Path, folder: Folder) -> None:
    torch.save({**torch.load(file, weights_only=True), "model": Bomb(folder.trap)}, file)


def forge_other_weights(file: Path, _: Folder) -> None:
    """A sound state of the same run and step, as an attempt that was superseded might leave it: only its digest differs."""
    state = torch.load(file, weights_only=True)
    torch.save({**state, "model": {name: tensor * 0 for name, tensor in state["model"].items()}}, file)


@dataclass(frozen=True)
class Case:
    """A damage, whether the row's digest is made to agree with it, and what the log says."""

    damage: Damage
    says: str
    forged: bool = False


DIGEST = "its SHA-256 differs"
CASES = {name: Case(damage, "No such file" if damage is remove else DIGEST) for name, damage in EVERYWHERE.items()} | {
    "a bomb": Case(put_a_bomb, DIGEST),
    "a bomb with the right digest": Case(put_a_bomb, "it does not hold a state", forged=True),
    "other weights": Case(forge_other_weights, DIGEST),
    "another trial's with its digest": Case(exchange_for_another_trials, "it belongs to another run", forged=True),
    "the one before with its digest": Case(exchange_for_the_one_before, "it belongs to another run", forged=True),
    "cut to half with its digest": Case(cut_to(0.5), "it does not hold a state", forged=True),
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noisy images."""
    folder, chance = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for label, grey in (("dark", 60), ("light", 190)):
        (folder / label).mkdir()
        for number in range(12):
            pixels = chance.integers(grey - 40, grey + 40, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


class Runs:
    """The real trainer on these images."""

    def __init__(self, images: Path, folder: Path) -> None:
        self.images, self.folder = images, folder

    def config(self, seed: int) -> ImageClassificationConfig:
        data, model = ImageData(path=str(self.images)), ImageModel(name="small_cnn")
        return ImageClassificationConfig(data=data, model=model, image_size=16, epochs=EPOCHS, batch_size=8, seed=seed)

    def reported(self, seed: int, checkpoints: Checkpoints) -> list[Any]:
        return list(train(self.config(seed), device=torch.device("cpu"), checkpoints=checkpoints))

    def saved(self, seed: int) -> tuple[list[Checkpoint], Finished]:
        """The checkpoints of a whole run, the newest first, and its end."""
        facts = self.reported(seed, Checkpoints(self.folder / f"seed-{seed}", seconds=0))
        return [fact.checkpoint for fact in facts if isinstance(fact, CheckpointSaved)][::-1], facts[-1]

    def resumed(self, seed: int, resume: Sequence[Checkpoint]) -> tuple[list[int], Finished]:
        """The epochs that are trained when the run goes on from these, and its end."""
        facts = self.reported(seed, Checkpoints(resume=resume))
        return [fact.step for fact in facts if isinstance(fact, EpochMetrics)], facts[-1]


@pytest.fixture
def runs(squares: Path, tmp_path: Path) -> Runs:
    return Runs(squares, tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(runs: Runs, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """I6, T18, by the real trainer: it goes on from the one before, says why, executes nothing, and ends as it would have."""
    (newest, before, *_), whole = runs.saved(seed=1)
    (foreign, *_), _ = runs.saved(seed=2)
    folder = Folder(Path(before.path), Path(foreign.path), runs.folder / "pwned")
    case.damage(Path(newest.path), folder)
    with caplog.at_level(logging.WARNING):
        epochs, end = runs.resumed(1, [forged(newest) if case.forged else newest, before])
    assert (newest.step, before.step, epochs) == (3, 2, [3, 4])
    assert end.metrics == whole.metrics, "it equals the run that was never interrupted, bit for bit"
    assert f"{newest.path} is passed over" in caplog.text and case.says in caplog.text
    assert not folder.trap.exists(), "the bomb was executed"


def test_without_a_sound_checkpoint_the_run_begins_anew(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    """I6: all are damaged."""
    checkpoints, whole = runs.saved(seed=1)
    for checkpoint, damage in zip(checkpoints, (flip_a_byte, cut_to(0.5), remove), strict=True):
        damage(Path(checkpoint.path), Folder(Path(), Path(), Path()))
    with caplog.at_level(logging.WARNING):
        epochs, end = runs.resumed(1, checkpoints)
    assert epochs == [1, 2, 3, 4] and end.metrics == whole.metrics and caplog.text.count("is passed over") == 3


def forged(checkpoint: Checkpoint) -> Checkpoint:
    """As a row would have it that was forged together with the file."""
    content = Path(checkpoint.path).read_bytes()
    return checkpoint.model_copy(update={"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)})


def test_attempts_after_a_kill_go_on_from_sound_checkpoints_alone(make_lab: MakeLab) -> None:
    """I6, I10 through worker, store and reaper: workers are killed, what their trials saved last is damaged, others take over."""
    lab = make_lab(lease_seconds=8.0, heartbeat_seconds=0.5)  # a busy machine starves nobody for so long
    study = lab.study(trials=len(EVERYWHERE), epochs=100)
    worker = lab.work("--step", "0.3", THAW_CHAOS_SLOTS=str(len(EVERYWHERE)))
    lab.until(lambda: sum(len(trial.checkpoints) >= 2 for trial in lab.trials(study)) == len(EVERYWHERE), "all have two checkpoints")
    worker.kill()
    before = {trial.number: trial for trial in lab.trials(study)}
    assert all(trial.state is TrialState.RUNNING for trial in before.values()), "a trial ended before its worker was killed"
    for (name, damage), trial in zip(EVERYWHERE.items(), before.values(), strict=True):
        newest, older, *_ = (Path(checkpoint.path) for checkpoint in trial.checkpoints)
        stranger = before[(trial.number + 1) % len(before)].checkpoints[-1].path
        damage(newest, Folder(older, Path(stranger), lab.home / "pwned"))
        lab.counts[name] += 1
    lab.work("--step", "0.005", THAW_CHAOS_SLOTS="2")
    lab.until(lambda: lab.now(study).state.terminal, "the study is complete", seconds=120)
    for trial in lab.trials(study):
        went_on_from_the_one_before(lab, before[trial.number], trial)
    check(lab, study, interval=100)  # what was saved last is lost on purpose
    lab.tell("F7")


def went_on_from_the_one_before(lab: Lab, before: Trial, after: Trial) -> None:
    """The second attempt's first step follows the older checkpoint; its log says why, and the files are those that the row names."""
    newest, older = before.checkpoints[:2]
    steps = [metric.step for metric in lab.store.read(queries.metrics, after.id) if metric.attempt == 2]
    assert (after.state, after.attempt, min(steps)) == (TrialState.COMPLETE, 2, older.step + 1)
    logged = "".join(chunk.text for chunk in lab.store.read(queries.log_chunks, after.id, of_attempt=2))
    assert f"{newest.path} is passed over" in logged, logged
    named = {checkpoint.path for checkpoint in after.checkpoints}
    folder = lab.home / "checkpoints" / after.study / str(after.number)
    lab.until(lambda: {str(path) for path in folder.rglob("*.*")} == named, "the files are those that the row names")
    assert all(json.loads(Path(path).read_text())["step"] for path in named)
