"""Outputs of frozen stages are stored on a device first, and on disk behind it. The device is a stand-in."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.trainer.cards import Card
from tests.trainer.features.running import CPU, Run, entries, run, same
from trainer import memory
from trainer.cache import Cache, Layout
from trainer.features.source import ON_DEVICE
from trainer.tasks.image_classification.config import ImageClassificationConfig

Configure = Callable[..., ImageClassificationConfig]
ROW = 48 * 4 * 4 * 4  # bytes of the output of three stages, [48, 4, 4] float32


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
    cache.wait()
    assert first.reuse.place == "device" and len(entries(cache)) == 2
    memory.drop_caches(CPU)
    card.others = card.total
    second = run(config, cache)
    assert second.reuse.place == "disk" and second.metrics == first.metrics, "the copy has the same bits"


def test_outputs_on_the_device_are_read_without_the_disk(configure: Configure, card: Card, cache: Cache) -> None:
    config = configure(frozen_layers=3, epochs=2)
    first = run(config, cache)
    cache.wait()
    for file in entries(cache):
        file.unlink()
    again = run(config, cache)
    assert again.metrics == first.metrics and not entries(cache)


def test_no_more_is_kept_than_the_device_s_limit(configure: Configure, card: Card, cache: Cache) -> None:
    card.total = 300_000  # of which a third may be kept: enough for 12 validation images, not for 48 training images
    found = run(configure(frozen_layers=3, epochs=2), Cache(cache.folder, 1))
    assert (found.reuse.depth, found.reuse.validation_depth, found.reuse.place) == (0, 3, "device")
    assert ON_DEVICE.held_bytes(CPU) == 12 * ROW


def test_training_goes_on_while_the_copy_on_disk_is_hashed(
    configure: Configure, card: Card, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the validation images' output; that of the training images' is begun before it and waited for."""
    config, sha256, hashing, goes_on = configure(frozen_layers=3, epochs=3), Layout.sha256, list[int](), threading.Event()

    def held_up(layout: Layout, mapping: Any, *, alone: bool = False) -> bytes:
        if len(layout.shape) == 2:  # outputs, not pixels
            hashing.append(layout.shape[0])
            assert alone and (layout.shape[0] != 12 or goes_on.wait(20))
        return sha256(layout, mapping, alone=alone)

    with monkeypatch.context() as patched:
        patched.setattr(Layout, "sha256", held_up)
        first = run(config, cache)
        assert hashing == [48, 12] and len(entries(cache)) == 1 and not goes_on.is_set(), "all epochs are over"
        again = run_later(goes_on, config, cache)
    assert again.metrics == first.metrics and hashing == [48, 12] and len(entries(cache)) == 2


def run_later(event: threading.Event, config: ImageClassificationConfig, cache: Cache) -> Run:
    """A run that begins before the event is set, which the plan waits for."""
    threading.Timer(0.3, event.set).start()
    found = run(config, cache)
    assert event.is_set()
    return found


def test_without_a_device_store_a_run_reads_its_own_entries_at_once(configure: Configure, cache: Cache) -> None:
    first = run(configure(frozen_layers=3, epochs=2), cache)
    assert first.reuse.place == "disk" and len(entries(cache)) == 2
