"""A queue of copies whose device performs nothing before it is waited for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


class Copying(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands copies to a queue in place of performing them."""

    def __init__(self, queue: Callable[[Callable[[], object]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queue = queue

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not torch.ops.aten.copy_.default:
            return function(*args, **(kwargs or {}))
        self.queue(lambda: function(*args))
        return args[0]


class Point:
    """A point in the queue of copies or, if it is recorded outside of it, in that of computing."""

    def __init__(self, owner: "DeferredQueue") -> None:
        self.owner, self.copies, self.is_copied = owner, -1, False

    def record(self) -> None:
        self.copies, self.is_copied = self.owner.queued, getattr(self.owner.local, "selected", False)
        assert self.is_copied == (threading.current_thread() is not self.owner.host), "the host records in the queue of computing"

    def synchronize(self) -> None:
        assert self.copies >= 0, "recorded before it is waited for"
        if self.is_copied:
            self.owner.perform(self.copies)
        else:
            assert self.owner.computing.wait(20), "the device has never got so far"

    def wait(self) -> None:
        assert self.is_copied and threading.current_thread() is self.owner.host
        self.owner.perform(self.copies)  # the host does not wait, but computing that follows finds the copies done


class DeferredQueue:
    """Implements CopyQueue on the CPU. Memory that no copy has filled holds 77s."""

    def __init__(self) -> None:
        self.host, self.local, self.lock = threading.current_thread(), threading.local(), threading.RLock()
        self.pending, self.performed = list[Callable[[], object]](), 0
        self.allocated, self.marked = list[int](), 0  # bytes of pinned buffers; batches marked as used
        self.computing = threading.Event()  # cleared: the device computes and gets no further
        self.computing.set()

    @property
    def queued(self) -> int:
        with self.lock:
            return self.performed + len(self.pending)

    def perform(self, count: int) -> None:
        """Perform the first `count` copies of all."""
        with self.lock, _disable_current_modes():  # the thread may be within `selected`
            while self.performed < count:
                self.pending.pop(0)()
                self.performed += 1

    def selected(self) -> AbstractContextManager[object]:
        return self._selected()

    @contextmanager
    def _selected(self) -> Iterator[None]:
        self.local.selected = True
        with Copying(self._queue):
            yield
        self.local.selected = False

    def _queue(self, copy: Callable[[], object]) -> None:
        with self.lock:
            self.pending.append(copy)

    def event(self) -> Point:
        return Point(self)

    def pinned(self, size: int) -> Tensor:
        self.allocated.append(size)
        return torch.full((size,), 77, dtype=torch.uint8)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        assert self.local.selected
        return torch.full(tuple(shape), 77, dtype=dtype)

    def used(self, tensor: Tensor) -> None:
        self.marked += 1
