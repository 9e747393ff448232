"""Batches are gathered and copied to a device ahead of the step. The device is a stand-in that copies as late as it may."""

import gc
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.deferred import DeferredQueue
from tests.trainer.features.running import MUCH
from trainer import memory, transfers
from trainer.cache import Cache
from trainer.data.examples import BadData
from trainer.data.images import augmentation, examples
from trainer.data.images.augmentation import Augmentation, augment
from trainer.data.images.examples import Prefetched, Streamed
from trainer.features.frozen_prefix import SequenceLayout
from trainer.features.source import StoredExamples, _looked_up
from trainer.loop import train
from trainer.preparation import Expected, prepare
from trainer.protocol import EpochMetrics
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.task import ImageInputs
from trainer.transfers import AHEAD, Prefetcher

CPU, META = torch.device("cpu"), torch.device("meta")
Configure = Callable[..., ImageClassificationConfig]
TABLE = torch.arange(100 * 7, dtype=torch.float32).view(100, 7)


def batches(size: int = 8, seed: int = 1) -> list[Tensor]:
    order = torch.randperm(len(TABLE), generator=torch.Generator().manual_seed(seed))
    return list(torch.split(order, size))


class Table:
    """The rows of TABLE, in another order, with a record of what was looked up."""

    def __init__(self) -> None:
        self.seen = list[int]()  # the first row of each batch
        self.failing: Tensor | None = None

    def lookup(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(int(rows[0]))
        if rows is self.failing:
            raise BadData("an image cannot be read any more")
        return TABLE.flip(0), len(TABLE) - 1 - rows


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetching")]


@pytest.mark.parametrize("pinned", [2**20, 3 * 28, 1], ids=["whole", "parts", "single rows"])
@pytest.mark.parametrize("announced", ["all", "none", "others", "fewer"])
def test_batches_are_equal_whatever_was_announced(monkeypatch: pytest.MonkeyPatch, announced: str, pinned: int) -> None:
    monkeypatch.setattr(transfers, "PINNED_BYTES", pinned)
    queue, table, wanted = DeferredQueue(), Table(), batches()
    prefetcher = Prefetcher(queue)
    prefetcher.expect({"all": wanted, "none": [], "others": batches(seed=2), "fewer": wanted[2:3]}[announced], table.lookup)
    for rows in wanted * 2:
        assert torch.equal(prefetcher.take(rows, table.lookup), TABLE[rows])
    assert queue.marked == 2 * len(wanted)


def test_equal_rows_of_another_table_are_not_those_that_were_announced() -> None:
    prefetcher, rows = Prefetcher(DeferredQueue()), torch.arange(5)
    first, second = Table(), Table()
    prefetcher.expect([rows], first.lookup)
    assert torch.equal(prefetcher.take(rows, second.lookup), TABLE[:5]) and second.seen == [0]


def test_each_batch_is_gathered_once_and_in_order() -> None:
    prefetcher, table, wanted = Prefetcher(DeferredQueue()), Table(), batches()
    prefetcher.expect(wanted, table.lookup)
    for rows in wanted:
        prefetcher.take(rows, table.lookup)
    assert table.seen == [int(rows[0]) for rows in wanted]


def test_two_batches_are_gathered_ahead_and_no_more() -> None:
    queue, table, wanted = DeferredQueue(), Table(), batches()
    prefetcher = Prefetcher(queue)
    prefetcher.expect(wanted, table.lookup)
    until(lambda: len(table.seen) == AHEAD)
    queue.computing.clear()  # the device is busy with the step before
    for rows in wanted[:AHEAD]:
        prefetcher.take(rows, table.lookup)
        time.sleep(0.05)
        assert len(table.seen) == AHEAD, "the device has not begun with what was taken"
    queue.computing.set()
    until(lambda: len(table.seen) == 2 * AHEAD)
    time.sleep(0.05)
    assert len(table.seen) == 2 * AHEAD


def test_pinned_memory_is_bounded_reused_and_freed_behind_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PINNED_BYTES", 100)  # three rows
    queue, table, wanted = DeferredQueue(), Table(), batches()
    prefetcher = Prefetcher(queue)
    prefetcher.expect(wanted, table.lookup)
    for rows in wanted:
        prefetcher.take(rows, table.lookup)
    assert len(queue.allocated) <= 4 and max(queue.allocated) == 84
    until(lambda: all(not staging.memory.nbytes for staging in prefetcher._gatherer._staging))


def test_an_error_of_the_thread_is_raised_in_the_step_of_its_batch_with_its_place() -> None:
    prefetcher, table, wanted = Prefetcher(DeferredQueue()), Table(), batches()
    table.failing = wanted[1]
    prefetcher.expect(wanted, table.lookup)
    assert torch.equal(prefetcher.take(wanted[0], table.lookup), TABLE[wanted[0]])
    with pytest.raises(BadData, match="an image cannot be read any more") as caught:
        prefetcher.take(wanted[1], table.lookup)
    assert "lookup" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert torch.equal(prefetcher.take(wanted[2], table.lookup), TABLE[wanted[2]])


def test_memory_that_runs_out_in_the_thread_is_a_lack_of_the_run() -> None:
    def lookup(rows: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    prefetcher, rows = Prefetcher(DeferredQueue()), torch.arange(3)
    prefetcher.expect([rows], lookup)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        prefetcher.take(rows, lookup)
    assert memory.lack(caught.value) is not None


def test_an_error_of_a_batch_that_is_not_taken_is_dropped_with_it() -> None:
    prefetcher, table, wanted = Prefetcher(DeferredQueue()), Table(), batches()
    table.failing = wanted[0]
    prefetcher.expect(wanted, table.lookup)
    prefetcher.expect(wanted[1:], table.lookup)
    assert torch.equal(prefetcher.take(wanted[1], table.lookup), TABLE[wanted[1]])


def test_after_a_new_announcement_nothing_of_the_last_one_is_gathered() -> None:
    queue, table, wanted = DeferredQueue(), Table(), batches()
    prefetcher = Prefetcher(queue)
    prefetcher.expect(wanted, table.lookup)
    prefetcher.take(wanted[0], table.lookup)
    prefetcher.cancel()
    seen = len(table.seen)
    time.sleep(0.05)
    assert len(table.seen) == seen <= 1 + AHEAD
    prefetcher.expect(wanted[6:], table.lookup)
    for rows in wanted[6:]:
        assert torch.equal(prefetcher.take(rows, table.lookup), TABLE[rows])
    assert table.seen[seen:] == [int(rows[0]) for rows in wanted[6:]]


def test_the_thread_ends_when_the_prefetcher_is_freed_with_batches_still_announced() -> None:
    gc.collect()
    before = set(prefetching())
    table, wanted = Table(), batches()
    prefetcher = Prefetcher(DeferredQueue())
    prefetcher.expect(wanted, table.lookup)
    prefetcher.take(wanted[0], table.lookup)
    (thread,) = set(prefetching()) - before
    del prefetcher
    thread.join(20)
    assert not thread.is_alive() and len(table.seen) <= 1 + AHEAD


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache with room for everything."""
    return Cache(tmp_path / "cache", 10**9)


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch, nothing_decoded: None) -> list[DeferredQueue]:
    """From now on the CPU is a device with queues of copies, which are listed here."""
    made = list[DeferredQueue]()

    def copy_queue(device: torch.device) -> DeferredQueue:
        made.append(DeferredQueue())
        return made[-1]

    monkeypatch.setattr(transfers, "copy_queue", copy_queue)
    return made


def metrics(config: ImageClassificationConfig, cache: Cache | None = None, **options: Any) -> list[dict[str, float]]:
    events = train(config, device=CPU, cache=cache, demand={config.frozen_layers: MUCH}, **options)
    return [dict(event.metrics) for event in events if isinstance(event, EpochMetrics)]


def test_on_a_cpu_there_is_no_queue_and_no_thread(configure: Configure, nothing_decoded: None) -> None:
    before = set(prefetching())
    assert transfers.copy_queue(CPU) is None
    metrics(configure())
    assert not set(prefetching()) - before
    assert not any(isinstance(images, Prefetched) for images in examples._kept.values())


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_training_on_images_that_are_copied_ahead_gives_the_same_metrics(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, augmentation: str, streamed: bool
) -> None:
    config = configure(augmentation=augmentation, epochs=3)
    expected = metrics(config)
    queues = request.getfixturevalue("queues")
    if streamed:
        examples._kept.clear()
        monkeypatch.setattr(examples, "HEADROOM", 2**60)
    before = set(prefetching())
    assert metrics(config) == expected
    assert sum(queue.marked for queue in queues) >= 3 * (6 + 1), "batches of training and validation"
    (kept,) = examples._kept.values()
    assert isinstance(kept, Streamed) == streamed
    until(lambda: not set(prefetching()) - before)


@pytest.mark.parametrize("augmentation", ["none", "flip"])
def test_training_on_stored_outputs_that_are_copied_ahead_gives_the_same_metrics(
    configure: Configure, cache: Cache, request: pytest.FixtureRequest, augmentation: str
) -> None:
    config = configure(frozen_layers=4, epochs=3, augmentation=augmentation, augmentation_views=2)
    expected = metrics(config, cache, depths=(4, 4))
    queues = request.getfixturevalue("queues")
    before = set(prefetching())
    assert metrics(config, cache, depths=(4, 4)) == expected, "the entries are those of the first run"
    assert sum(queue.marked for queue in queues) >= 3 * (6 + 1)
    until(lambda: not set(prefetching()) - before)


def test_stored_sequences_are_copied_ahead_padded_as_they_are_read_without_a_thread() -> None:
    lengths = torch.tensor([2, 1, 3, 4, 1])
    entry = torch.arange(int(lengths.sum()) * 3.0).view(-1, 3)
    run: Any = SimpleNamespace(examples=SimpleNamespace(keys=torch.arange(5), lengths=lengths))
    layout, part = SequenceLayout((3,), torch.float32), StoredExamples(run, torch.arange(5), 1, augmented=False)
    lookup, rows = partial(_looked_up, entry, part, layout), torch.tensor([3, 0, 4])
    prefetcher = Prefetcher(DeferredQueue())
    prefetcher.expect([rows, rows[:2]], lookup)
    found = prefetcher.take(rows, lookup).view(3, -1, 3)
    assert torch.equal(found, entry[part.places_of_positions(rows)].view(3, 4, 3)) and torch.equal(found[1, :2], entry[:2])
    assert part.lengths(rows).tolist() == [4, 2, 1]


def test_a_run_that_is_closed_in_an_epoch_ends_its_threads(configure: Configure, queues: list[DeferredQueue]) -> None:
    before = set(prefetching())
    events = train(configure(), device=CPU)
    while next(events).kind != "advanced":
        pass
    next(events)
    assert set(prefetching()) - before
    events.close()
    until(lambda: not set(prefetching()) - before)


def test_an_image_that_is_lost_ends_the_run_with_its_name(
    configure: Configure, queues: list[DeferredQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "HEADROOM", 2**60)
    config = configure()
    run = prepare(config, CPU, Expected(), Cache.none())
    assert isinstance(run.examples, ImageInputs) and isinstance(run.examples.images, Prefetched)
    for file in Path(config.data.path).rglob("*.png"):
        file.unlink()
    run.examples.expect(run.batches_of(1))
    with pytest.raises(BadData, match=r"an image cannot be read any more: .*\.png: No such file"):
        run.examples.take(run.batches_of(1)[0], 0)


class Crossing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the operations that get tensors of the host and of the device, or move one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = list[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        devices = {tensor.device for tensor in tree_leaves((args, kwargs, found)) if isinstance(tensor, Tensor)}
        if devices == {CPU, META}:
            self.names.append(function.name())
        return found


@pytest.mark.parametrize("kind", ["flip", "crop", "shear_x", "translate_y", "rotate", "brightness", "contrast", "posterize", "solarize"])
def test_what_augmentation_computes_on_the_host_reaches_the_device_by_one_copy_that_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pixels, strengths = torch.zeros((4, 3, 8, 8), dtype=torch.uint8, device=META), torch.tensor([0.1, 0.2, 3.0, 8.0])
    moved = list[Tensor]()

    def sent(tensor: Tensor, device: torch.device) -> Tensor:
        assert (tensor.device, device) == (CPU, META)
        moved.append(tensor)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    monkeypatch.setattr(augmentation, "sent", sent)
    with Crossing() as crossing:
        if kind in ("flip", "crop"):
            changed = augment(pixels, torch.arange(4), 0, cast("Augmentation", kind))
        else:
            changed = getattr(augmentation, f"_{kind}")(pixels, strengths)
    assert changed.device == META and len(moved) == 1 and crossing.names == []


def test_a_small_tensor_is_sent_by_one_copy_and_stays_itself_on_a_cpu() -> None:
    tensor = torch.arange(5)
    assert transfers.sent(tensor, CPU) is tensor
    with Crossing() as crossing:
        assert transfers.sent(tensor, META).device == META
    assert crossing.names == ["aten::_to_copy"]


@pytest.mark.gpu
@pytest.mark.parametrize("pinned", [2**20, 3 * 28], ids=["whole", "parts"])
def test_a_gpu_gets_the_same_batches(monkeypatch: pytest.MonkeyPatch, pinned: int) -> None:
    monkeypatch.setattr(transfers, "PINNED_BYTES", pinned)
    queue, table, wanted = transfers.copy_queue(torch.device("cuda:0")), Table(), batches()
    assert queue is not None
    prefetcher = Prefetcher(queue)
    for _ in range(20):
        prefetcher.expect(wanted, table.lookup)
        taken = [prefetcher.take(rows, table.lookup) * 2 for rows in wanted]
        assert all(batch.is_cuda and torch.equal(batch.cpu(), TABLE[rows] * 2) for batch, rows in zip(taken, wanted, strict=True))


@pytest.mark.gpu
def test_taking_a_batch_that_was_copied_ahead_does_not_wait_for_the_gpu() -> None:
    queue, table, wanted = transfers.copy_queue(torch.device("cuda:0")), Table(), batches()
    assert queue is not None
    prefetcher = Prefetcher(queue)
    prefetcher.expect(wanted, table.lookup)
    until(lambda: all(announced.copied.done() for announced in prefetcher._ahead))
    torch.cuda._sleep(2_000_000_000)  # type: ignore[no-untyped-call]  # about a second
    started = time.monotonic()
    prefetcher.take(wanted[0], table.lookup)
    assert time.monotonic() - started < 0.5
