"""Copies between the host and a device through pinned memory, which neither of them waits for."""

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PINNED_BYTES = 64 * 2**20  # of each of the two buffers for copies in one direction


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the host on the device; on a CPU the tensor itself. The copy from pinned memory waits for nothing."""
    if device.type == "cpu":
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class DeviceEvent(Protocol):
    """A point in a queue of a device; as torch.cuda.Event."""

    def record(self) -> None:
        """Set the point behind the work that is queued."""

    def synchronize(self) -> None:
        """Wait until the device has reached it."""

    def wait(self) -> None:
        """Let work that is queued from now on wait until the device has reached it. The host does not wait."""


def device_event(device: torch.device) -> Callable[[], DeviceEvent] | None:
    """Makes events of a device that runs asynchronously; None for others."""
    return torch.cuda.Event if device.type == "cuda" else None


class HostCopies:
    """Copies batches from a device into a tensor on the host, one batch behind, so that the device computes the next one meanwhile.

    The copies go through two buffers of pinned memory: a copy to other memory would wait for the device. Without `event` each batch is
    copied at once.
    """

    def __init__(self, into: Tensor, event: Callable[[], DeviceEvent] | None, *, pinned: bool = True) -> None:
        self._into, self._event, self._pinned = into, event, pinned
        self._buffers = list[Tensor]()
        self._queued: tuple[int, Tensor, DeviceEvent] | None = None

    def write(self, first: int, rows: Tensor) -> None:
        """Copy the rows to row `first` and the following ones."""
        if self._event is None:
            self._into[first:][: len(rows)] = rows
            return
        count = max(1, PINNED_BYTES // max(1, rows[0].nbytes))
        if not self._buffers:
            shape = min(count, len(rows)), *rows.shape[1:]
            self._buffers = [torch.empty(shape, dtype=rows.dtype, pin_memory=self._pinned) for _ in range(2)]
        for part in torch.split(rows, len(self._buffers[0])):
            staged, event = self._buffers[0][: len(part)], self._event()
            staged.copy_(part, non_blocking=True)
            event.record()
            self.finish()
            self._queued = first, staged, event
            self._buffers.reverse()
            first += len(part)

    def finish(self) -> None:
        """Wait for the batch that is still being copied."""
        if self._queued is not None:
            first, staged, event = self._queued
            event.synchronize()
            self._into[first:][: len(staged)] = staged
            self._queued = None


class CopyQueue(Protocol):
    """A device's queue of copies beside its queue of computing; implemented by CudaCopyQueue."""

    def selected(self) -> AbstractContextManager[object]:
        """The context in which memory, copies and events of the calling thread are of this queue, not of that of computing."""

    def event(self) -> DeviceEvent:
        """A new event."""

    def pinned(self, size: int) -> Tensor:
        """Bytes of the host that the device copies without the host, uint8 [size]."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor on the device, not initialised; within `selected`."""

    def used(self, tensor: Tensor) -> None:
        """Mark a tensor of this queue as used by the queue of computing: once freed, its memory is reused behind what is queued there."""


class CudaCopyQueue:
    """A stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def selected(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def event(self) -> DeviceEvent:
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # a thread that waits for it uses no processor

    def pinned(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=self._device)

    def used(self, tensor: Tensor) -> None:
        tensor.record_stream(torch.cuda.current_stream(self._device))


def copy_queue(device: torch.device) -> CopyQueue | None:
    """A new queue of copies to the device; None for a device that has none, such as a CPU."""
    return CudaCopyQueue(device) if device.type == "cuda" else None


AHEAD = 2  # batches that are gathered before they are taken

Lookup = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps the rows of a batch, int64 [B], to a tensor on the host [N, ...] and the places of the rows in it, int64 [B]."""


class _Copied(NamedTuple):
    batch: Tensor  # on the device
    event: DeviceEvent  # behind its copy


@dataclass(slots=True)
class _Staging:
    memory: Tensor  # pinned, uint8
    copied: DeviceEvent | None = None  # behind the last copy from it


class _Gatherer:
    """The work of the Prefetcher's thread. It does not refer to the Prefetcher, whose end therefore does not depend on the thread's."""

    def __init__(self, queue: CopyQueue) -> None:
        self._queue = queue
        self._staging = deque(_Staging(torch.empty(0, dtype=torch.uint8)) for _ in range(2))

    def copy(self, rows: Tensor, lookup: Lookup, after: DeviceEvent | None) -> _Copied:
        """Gather the batch and queue its copy, once the device has reached `after`."""
        if after is not None:
            after.synchronize()
        table, places = lookup(rows)
        count = max(1, PINNED_BYTES // max(1, math.prod(table.shape[1:]) * table.dtype.itemsize))  # rows in a buffer
        with self._queue.selected():
            batch = self._queue.empty((len(places), *table.shape[1:]), table.dtype)
            for some, into in zip(torch.split(places, count), torch.split(batch, count), strict=True):
                staging = self._free_staging(into.nbytes)
                staged = staging.memory[: into.nbytes].view(table.dtype).view(into.shape)
                torch.index_select(table, 0, some, out=staged)
                into.copy_(staged, non_blocking=True)
                staging.copied = self._recorded()
            return _Copied(batch, self._recorded())

    def release(self) -> None:
        """Free the pinned memory."""
        for staging in self._staging:
            if staging.copied is not None:
                staging.copied.synchronize()
            staging.memory, staging.copied = torch.empty(0, dtype=torch.uint8), None

    def _free_staging(self, size: int) -> _Staging:
        staging = self._staging[0]
        self._staging.rotate()
        if staging.copied is not None:
            staging.copied.synchronize()
        if staging.memory.nbytes < size:
            staging.memory = self._queue.pinned(size)
        return staging

    def _recorded(self) -> DeviceEvent:
        event = self._queue.event()
        event.record()
        return event


@dataclass(frozen=True, slots=True, eq=False)
class _Announced:
    rows: Tensor
    lookup: Lookup
    copied: Future[_Copied]


class Prefetcher:
    """Gathers batches on the host in a thread and copies them to a device ahead of the step.

    A copy goes through one of two pinned buffers into the device's queue of copies, and the step's computing waits for it there; the host
    does not. At most AHEAD batches are on the device before they are taken, and the thread gathers the next one only when the device has
    reached the point where the last one was taken, so that a host that runs ahead of the device cannot fill its memory. The thread ends
    when the Prefetcher is freed. Results do not depend on what was announced.
    """

    def __init__(self, queue: CopyQueue) -> None:
        self._queue, self._gatherer = queue, _Gatherer(queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetching")
        self._coming: Iterator[tuple[Tensor, Lookup]] | None = None  # None once all announced batches are being gathered
        self._ahead = deque[_Announced]()
        self._taken: DeviceEvent | None = None  # where the last batch was taken, in the queue of computing
        weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)

    def cancel(self) -> None:
        """Drop the announced batches. The thread does nothing on return."""
        self._coming = None
        running = [announced.copied for announced in self._ahead if not announced.copied.cancel()]
        self._ahead.clear()
        wait(running)

    def expect(self, batches: Iterable[Tensor], lookup: Lookup) -> None:
        """Announce the rows of the next batches in order. Replaces earlier announcements."""
        self.cancel()
        self._coming = ((rows, lookup) for rows in batches)
        self._gather_ahead()

    def take(self, rows: Tensor, lookup: Lookup) -> Tensor:
        """The batch on the device; work that is queued from now on may use it. Raises what the lookup or the copy raised in the thread."""
        expected = bool(self._ahead) and self._ahead[0].rows is rows and self._ahead[0].lookup == lookup
        # Without a variable for the future: it would refer to an error, whose traceback refers to this frame and to tensors of the device.
        batch, copied = (self._ahead.popleft() if expected else self._started(rows, lookup)).copied.result()
        copied.wait()
        self._queue.used(batch)
        self._taken = self._queue.event()
        self._taken.record()
        self._gather_ahead()
        return batch

    def _gather_ahead(self) -> None:
        while self._coming is not None and len(self._ahead) < AHEAD:
            if (following := next(self._coming, None)) is None:
                self._coming = None
                self._thread.submit(self._gatherer.release)
            else:
                self._ahead.append(self._started(*following))

    def _started(self, rows: Tensor, lookup: Lookup) -> _Announced:
        return _Announced(rows, lookup, self._thread.submit(self._gatherer.copy, rows, lookup, self._taken))
