"""Checkpoints appear whole, and are used only when they are provably what was written."""

import hashlib
import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from trainer import files
from trainer.checkpoints import Checkpoints, DamagedCheckpoint, TrainingState, digest, read
from trainer.protocol import Checkpoint
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageData, ImageModel, NearDuplicates

RUN = "a" * 64


def state(step: int, run: str = RUN) -> TrainingState:
    model = {"weight": torch.full((3, 3), float(step))}
    moments = {0: {"step": torch.tensor(float(step)), "exp_avg": torch.ones(3, 3)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return TrainingState(step=step, run=run, model=model, optimizer=optimizer, train_loss=float("nan"), lr=0.1, seconds=1.5)


def written(folder: Path, *steps: int) -> list[Checkpoint]:
    checkpoints, found = Checkpoints(folder, seconds=0), list[Checkpoint]()
    for step in steps:
        checkpoints.hold(step, partial(state, step))
        saved = checkpoints.write()
        assert saved is not None
        found.insert(0, saved)
    return found


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (checkpoint,) = written(tmp_path, 4)
    found = read(checkpoint, RUN)
    assert found.step == 4 and torch.equal(found.model["weight"], torch.full((3, 3), 4.0))
    assert torch.equal(found.optimizer["state"][0]["exp_avg"], torch.ones(3, 3)) and found.optimizer["param_groups"][0]["lr"] == 0.1
    assert checkpoint.size == Path(checkpoint.path).stat().st_size
    assert checkpoint.sha256 == hashlib.sha256(Path(checkpoint.path).read_bytes()).hexdigest()


def test_below_the_floor_nothing_is_written_and_the_run_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path / "new", seconds=0, floor_bytes=2**62)
    for step in (1, 2):
        checkpoints.hold(step, partial(state, step))
        assert checkpoints.write() is None
    assert caplog.text.count("is skipped") == 1 and "checkpoint after epoch 1" in caplog.text
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_that_refuses_keeps_the_files_before_and_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sound,) = written(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, seconds=0)
    checkpoints.hold(2, partial(state, 2))
    with files_of_at_most(512):
        assert checkpoints.write() is None
    assert [file.name for file in tmp_path.iterdir()] == ["epoch-000001.pt"] and read(sound, RUN).step == 1
    assert "checkpoint after epoch 2 is skipped" in caplog.text
    checkpoints.hold(3, partial(state, 3))
    saved = checkpoints.write()
    assert saved is not None and read(saved, RUN).step == 3


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk does, the kernel refuses to make any file longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_is_written_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, seconds=0)
    assert checkpoints.write() is None and not checkpoints.due
    checkpoints.hold(1, partial(state, 1))
    assert checkpoints.due and checkpoints.write() is not None
    assert checkpoints.write() is None and not checkpoints.due


def test_nothing_is_due_before_its_time(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, seconds=3_600)
    checkpoints.hold(1, partial(state, 1))
    assert not checkpoints.due


def test_without_a_folder_nothing_is_written() -> None:
    checkpoints = Checkpoints(seconds=0)
    checkpoints.hold(1, partial(state, 1))
    assert not checkpoints.due and checkpoints.write() is None and checkpoints.step == 1


def test_the_newest_sound_one_is_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(resume=list(reversed(written(tmp_path, 1, 2))))
    restored = checkpoints.restore(RUN)
    assert restored is not None and restored.step == 2 == checkpoints.step


def test_without_a_sound_one_the_run_starts_at_its_beginning(tmp_path: Path) -> None:
    resume = written(tmp_path, 1, 2)
    for file in tmp_path.iterdir():
        file.unlink()
    checkpoints = Checkpoints(resume=resume)
    assert checkpoints.restore(RUN) is None and checkpoints.step == 0


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def zero_a_page(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[:512] = bytes(512)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, zero_a_page, Path.unlink])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    resume = written(tmp_path, 1, 2)
    damage(Path(resume[0].path))
    with caplog.at_level(logging.WARNING):
        restored = Checkpoints(resume=resume).restore(RUN)
    assert restored is not None and restored.step == 1
    assert "epoch-000002.pt is passed over" in caplog.text


def test_one_of_another_run_is_passed_over(tmp_path: Path) -> None:
    assert Checkpoints(resume=written(tmp_path, 2)).restore("b" * 64) is None


def test_one_that_was_exchanged_for_an_older_one_is_passed_over(tmp_path: Path) -> None:
    newer, older = written(tmp_path, 1, 2)
    with pytest.raises(DamagedCheckpoint):
        read(newer.model_copy(update={"path": older.path}), RUN)
    with pytest.raises(DamagedCheckpoint, match="another run"):
        read(older.model_copy(update={"step": 2}), RUN)


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.trace, "executed")


def test_a_malicious_pickle_is_not_executed_even_with_the_right_hash(tmp_path: Path) -> None:
    trace, file = tmp_path / "trace", tmp_path / "epoch-000001.pt"
    torch.save({**{name: getattr(state(1), name) for name in TrainingState.__slots__}, "model": Malicious(trace)}, file)
    content = file.read_bytes()
    checkpoint = Checkpoint(step=1, path=str(file), sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    assert Checkpoints(resume=[checkpoint]).restore(RUN) is None
    assert not trace.exists()
    torch.load(file, weights_only=False)  # the trap was a real one
    assert trace.exists()


def test_what_a_crash_left_half_written_is_swept(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / "epoch-000002.pt.77.tmp").write_bytes(b"half")
    Checkpoints(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["epoch-000001.pt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


WRITER = """
import sys
from pathlib import Path
from trainer import files
number = 0
while True:
    number += 1
    files.write(Path(sys.argv[1]), lambda file: [file.write(bytes([number % 256]) * 65536) for _ in range(8)])
    sys.stdout.write(".")
    sys.stdout.flush()
"""


def test_a_writer_that_is_killed_never_leaves_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for kill in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            process.stdout.read(3 + kill)
            process.kill()
        content = path.read_bytes()
        assert len(content) == 8 * 65_536 and len(set(content)) == 1


def test_the_digest_of_a_run_without_new_fields_is_that_of_version_0_1() -> None:
    model = ImageModel(name="resnet18", weights="a.safetensors", mean=IMAGENET_MEAN, std=IMAGENET_STD)  # as a run has them written out
    config = ImageClassificationConfig(data=ImageData(path="data"), model=model, lr=0.01)
    near = NearDuplicates(groups=0, images=0, crossing=0, mixed=0)
    facts = ImageClassificationInfo(
        classes=("a", "b"), images={"train": 8, "validation": 2, "test": 0}, fingerprint="f", split="s", weights_sha256="w",
        near_duplicates=near,
    )  # fmt: skip
    assert digest(config, facts) == "fac714bfaaf43989c6287aa093c6f6fc9a5f689c430113a848922088746994f2"
    assert digest(config.model_copy(update={"data": ImageData(path="data", unreadable="skip")}), facts) != digest(config, facts)
