"""Images that nothing holds: decoded for each batch, the same as ever."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.data.examples import BadData
from trainer.data.images import dataset, examples
from trainer.data.images.dataset import ImageDataset
from trainer.data.images.examples import Streamed, load
from trainer.loop import train
from trainer.protocol import EpochMetrics
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData

CPU = torch.device("cpu")
Paint = Callable[..., Path]
Configure = Callable[..., ImageClassificationConfig]


pytestmark = pytest.mark.usefixtures("nothing_decoded")


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no image fits the memory."""

    def no_memory() -> None:
        examples._kept.clear()
        monkeypatch.setattr(examples, "HEADROOM", 2**60)

    return no_memory


def find(path: Path) -> ImageDataset:
    return dataset.find(ImageData(path=str(path)))


def streamed(root: Path) -> Streamed:
    images = load(find(root), 16, CPU)
    assert isinstance(images, Streamed)
    return images


def batches(count: int, size: int = 5) -> list[torch.Tensor]:
    return list(torch.randperm(count, generator=torch.Generator().manual_seed(1)).split(size))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("reported", ["all", "none", "others", "fewer"])
def test_batches_are_equal_whatever_was_expected(paint: Paint, no_memory: Callable[[], None], reported: str) -> None:
    root = paint(count=8)
    kept = load(find(root), 16, CPU)
    no_memory()
    images, wanted = streamed(root), batches(24)
    assert images.origin == "streamed" and torch.equal(images.keys, kept.keys)
    images.expect({"all": wanted, "none": [], "others": wanted[::-1], "fewer": wanted[2:3]}[reported])
    for rows in [*wanted, *wanted[::-1]]:
        assert torch.equal(images.take(rows), kept.take(rows))


def test_training_on_streamed_images_gives_the_same_metrics(configure: Configure, no_memory: Callable[[], None]) -> None:
    config = configure(augmentation="flip")
    kept = [fact.metrics for fact in train(config, device=CPU) if isinstance(fact, EpochMetrics)]
    no_memory()
    assert [fact.metrics for fact in train(config, device=CPU) if isinstance(fact, EpochMetrics)] == kept
    assert all(isinstance(images, Streamed) for images in examples._kept.values())


def test_damaged_images_are_named_before_any_is_trained_on(paint: Paint, no_memory: Callable[[], None]) -> None:
    root = paint(count=8)
    (root / "red" / "1.png").write_bytes(b"no image at all")
    (root / "blue" / "7.png").write_bytes(b"nor this")
    no_memory()
    with pytest.raises(BadData, match=r"2 of [0-9]+ images cannot be used: blue/7\.png: not an image.*; red/1\.png: not an image"):
        streamed(root)


def test_an_image_that_is_lost_later_is_named_when_its_batch_comes(paint: Paint, no_memory: Callable[[], None]) -> None:
    root = paint(count=8)
    no_memory()
    images, dataset = streamed(root), find(root)
    lost = dataset.contents[3].files[0]
    lost.file.unlink()
    assert len(images.take(torch.tensor([0, 1, 2]))) == 3
    with pytest.raises(BadData, match=rf"{lost.name}: No such file"):
        images.take(torch.tensor([2, 3]))


@pytest.mark.parametrize(("name", "bound"), [("AHEAD_BATCHES", 2), ("AHEAD_BYTES", 2 * 5 * 3 * 16 * 16)])
def test_so_many_batches_are_decoded_ahead_and_no_more(
    paint: Paint, no_memory: Callable[[], None], monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    root = paint(count=8)
    no_memory()
    monkeypatch.setattr(examples, name, bound)
    images, wanted = streamed(root), batches(24)
    images.expect(wanted)
    images.take(torch.tensor([0]))  # comes after the expected ones, in the one thread that decodes here
    for file in root.rglob("*.png"):
        file.unlink()
    assert [len(images.take(rows)) for rows in wanted[:2]] == [5, 5]
    with pytest.raises(BadData, match="an image cannot be read any more"):
        images.take(wanted[2])


def test_what_is_no_longer_expected_is_forgotten(paint: Paint, no_memory: Callable[[], None]) -> None:
    root = paint(count=8)
    no_memory()
    images, wanted = streamed(root), batches(24)
    images.expect(wanted)
    images.take(wanted[0])  # a run that is pruned here
    images.expect(wanted[3:])
    images.take(torch.tensor([0]))  # comes after the expected ones, in the one thread that decodes here
    for file in root.rglob("*.png"):
        file.unlink()
    assert len(images.take(wanted[3])) == 5
    with pytest.raises(BadData, match="an image cannot be read any more"):
        images.take(wanted[1])
