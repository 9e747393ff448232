"""Outputs of frozen stages are stored on a device first, and on disk behind it. The device is a stand-in."""

from collections.abc import Callable, Iterator

import pytest

from tests.trainer.features.running import CPU, entries, run, same
from tests.trainer.test_retry import Card
from trainer import memory
from trainer.cache import Cache
from trainer.features.source import ON_DEVICE
from trainer.tasks.image_classification.config import ImageClassificationConfig

Configure = Callable[..., ImageClassificationConfig]
ROW = 48 * 4 * 4 * 4  # bytes of the output of three stages, [48, 4, 4] float32


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, nothing_decoded: None) -> Iterator[Card]:
    """Gives the processor a memory of its own, of 100 MB."""
    found = Card()
    monkeypatch.setattr(memory, "of", lambda device: found)
    yield found
    monkeypatch.undo()
    memory.drop_caches(CPU)


def test_a_device_with_room_has_the_outputs_that_the_disk_has_no_room_for(configure: Configure, card: Card, cache: Cache) -> None:
    config, full = configure(frozen_layers=3, epochs=3), Cache(cache.folder, 1)
    computed, stored = run(config, full, share=False), run(config, full)
    assert (stored.reuse.depth, stored.reuse.validation_depth, stored.reuse.place) == (3, 3, "device")
    assert same(stored, computed) and not entries(cache)
    assert ON_DEVICE.held_bytes(CPU) == 60 * ROW, "outputs of 60 images"
    card.others = card.total
    assert run(config, full).reuse.depth == 0, "where neither has room, each epoch computes them"


def test_with_room_on_both_the_disk_has_a_copy(configure: Configure, card: Card, cache: Cache) -> None:
    config = configure(frozen_layers=3, epochs=2)
    first = run(config, cache)
    assert first.reuse.place == "device" and len(entries(cache)) == 2
    memory.drop_caches(CPU)
    card.others = card.total
    second = run(config, cache)
    assert second.reuse.place == "disk" and second.metrics == first.metrics, "the copy has the same bits"


def test_outputs_on_the_device_are_read_without_the_disk(configure: Configure, card: Card, cache: Cache) -> None:
    config = configure(frozen_layers=3, epochs=2)
    first = run(config, cache)
    for file in entries(cache):
        file.unlink()
    again = run(config, cache)
    assert again.metrics == first.metrics and not entries(cache)


def test_no_more_is_kept_than_the_device_s_limit(configure: Configure, card: Card, cache: Cache) -> None:
    card.total = 300_000  # of which a third may be kept: enough for 12 validation images, not for 48 training images
    found = run(configure(frozen_layers=3, epochs=2), Cache(cache.folder, 1))
    assert (found.reuse.depth, found.reuse.validation_depth, found.reuse.place) == (0, 3, "device")
    assert ON_DEVICE.held_bytes(CPU) == 12 * ROW
