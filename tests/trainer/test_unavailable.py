"""Data and weights that a machine cannot read end a run or a check by a line of their own; a digest that differs proves a change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trainer.narrowed import image_info
from trainer.cache import Cache
from trainer.data.images import decoding
from trainer.data.images.decoding import Undecodable
from trainer.host import Host
from trainer.loop import train
from trainer.pipes import HostMessage
from trainer.preparation import Expected, inspect
from trainer.protocol import Check, Checked, Failed, Progress, Unavailable
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel

CPU = torch.device("cpu")
Paint = Callable[..., Path]
Configure = Callable[..., ImageClassificationConfig]

pytestmark = pytest.mark.usefixtures("nothing_decoded")


@pytest.fixture
def root(paint: Paint) -> Path:
    return paint(count=8)


@pytest.fixture
def config(configure: Configure, root: Path) -> ImageClassificationConfig:
    return configure(data=ImageData(path=str(root)), epochs=1)


@pytest.fixture
def facts(config: ImageClassificationConfig) -> ImageClassificationInfo:
    """As the data was checked."""
    return image_info(inspect(config, CPU, Cache.none()).facts)


def end_of(config: ImageClassificationConfig, facts: ImageClassificationInfo) -> Progress:
    """How a run ends that expects what was checked."""
    expected = Expected(facts)
    *_, last = train(config, device=CPU, expected=expected)
    assert not isinstance(last, Exception)
    return last  # type: ignore[return-value]


def move(root: Path) -> None:
    root.rename(root.with_name("moved"))


def unmount(root: Path) -> None:
    move(root)
    root.mkdir()


def lose_a_class(root: Path) -> None:
    shutil.rmtree(root / "red")


def lose_an_image(root: Path) -> None:
    (root / "red" / "3.png").unlink()


def break_a_link(root: Path) -> None:
    """The file is listed, and cannot be opened."""
    lose_an_image(root)
    (root / "red" / "3.png").symlink_to(root / "gone.png")


@pytest.mark.parametrize("damage", [move, unmount, lose_a_class, lose_an_image, break_a_link])
def test_checked_data_that_is_missing_is_unavailable(
    root: Path, config: ImageClassificationConfig, facts: ImageClassificationInfo, damage: Callable[[Path], None]
) -> None:
    damage(root)
    end = end_of(config, facts)
    assert isinstance(end, Unavailable) and (end.what, end.paths) == ("data", (str(root),)), end


def test_checked_data_that_this_machine_cannot_decode_is_unavailable(
    config: ImageClassificationConfig, facts: ImageClassificationInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Undecodable("not an image, or its header is damaged")

    monkeypatch.setattr(decoding.Decoder, "square", refuse)
    monkeypatch.setattr(decoding, "VERSION", 77)  # what this process has decoded does not count
    end = end_of(config, facts)
    assert isinstance(end, Unavailable) and "cannot be used" in end.detail


def test_content_that_has_changed_is_a_failure(root: Path, config: ImageClassificationConfig, facts: ImageClassificationInfo) -> None:
    shutil.copy(root / "blue" / "1.png", root / "red" / "3.png")
    (root / "blue" / "1.png").unlink()
    shutil.copy(root / "green" / "1.png", root / "green" / "again.png")
    end = end_of(config, facts)
    assert isinstance(end, Failed) and end.reason == "bad_data" and "differ from the expected ones" in end.detail


def test_an_image_more_is_a_failure(root: Path, config: ImageClassificationConfig, facts: ImageClassificationInfo) -> None:
    shutil.copy(root / "green" / "1.png", root / "green" / "again.png")
    end = end_of(config, facts)
    assert isinstance(end, Failed) and end.reason == "bad_data"


def test_a_weights_file_that_is_missing_is_unavailable(
    config: ImageClassificationConfig, facts: ImageClassificationInfo, tmp_path: Path
) -> None:
    file = str(tmp_path / "gone.safetensors")
    end = end_of(config.model_copy(update={"model": ImageModel(name="small_cnn", weights=file)}), facts)
    assert isinstance(end, Unavailable) and (end.what, end.paths) == ("weights", (file,))


def test_weights_that_cannot_be_downloaded_are_unavailable(
    configure: Configure, facts: ImageClassificationInfo, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    model = ImageModel(name="squeezenet1_1", weights="DEFAULT")
    end = end_of(configure(data=ImageData(path=str(root)), model=model, image_size=32, epochs=1), facts)
    assert isinstance(end, Unavailable) and (end.what, end.paths) == ("weights", ())


class ReportedSoFar(list[HostMessage]):
    def send(self, *lines: HostMessage) -> None:
        self.extend(lines)


@pytest.mark.parametrize("damage", [move, unmount])
def test_a_check_that_cannot_see_the_data_is_no_verdict(
    root: Path, config: ImageClassificationConfig, damage: Callable[[Path], None]
) -> None:
    damage(root)
    reported = ReportedSoFar()
    Host(CPU, Cache.none(), None, reported).perform(Check(config=config))  # type: ignore[arg-type]
    [line] = reported
    assert isinstance(line, Unavailable) and line.paths == (str(root),)


def test_a_check_of_data_that_is_unfit_is_a_verdict(root: Path, config: ImageClassificationConfig) -> None:
    for colour in ("red", "blue"):
        shutil.rmtree(root / colour)
    reported = ReportedSoFar()
    Host(CPU, Cache.none(), None, reported).perform(Check(config=config))  # type: ignore[arg-type]
    [line] = reported
    assert isinstance(line, Failed) and "one class only" in line.detail


def test_a_check_of_sound_data_is_passed(config: ImageClassificationConfig) -> None:
    reported = ReportedSoFar()
    Host(CPU, Cache.none(), None, reported).perform(Check(config=config))  # type: ignore[arg-type]
    assert [type(line) for line in reported] == [Checked]
