"""Memory of the host and of the device: what is free, the peak of a run, errors that mean that it ran out, and caches on the device."""

import gc
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

import torch

CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that this process can still allocate, by the kernel's estimate and the container's limit; None if both are unknown."""
    found = [amount for amount in (_of_machine(), _of_container()) if amount is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _of_container() -> int | None:
    limit, used = _text(CGROUP / "memory.max").strip(), _text(CGROUP / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = re.search(r"^inactive_file (\d+)", _text(CGROUP / "memory.stat"), re.MULTILINE)
    return max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def readable(amount: float) -> str:
    """A number of bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:  # `.3g` writes larger amounts as 1e+03
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


CONTEXT_BYTES = 2**30  # allowance for CUDA's context and the workspaces of libraries, which the allocator does not count
OTHERS_SHARE = 0.1  # of a device's memory; if other processes hold more, a lack of memory is not attributed to the run


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a device's memory at one moment."""

    free: int  # by the driver
    total: int
    reserved: int  # by this process's allocator
    allocated: int  # of these, in use by tensors

    @property
    def left(self) -> int:
        """Bytes that this process can still allocate: what is free, and what its allocator has reserved and does not use."""
        return self.free + max(0, self.reserved - self.allocated)

    @property
    def others(self) -> int:
        """Bytes held by other processes, less the allowance for this process's context. 0 if it is not more than the allowance."""
        return max(0, self.total - self.free - self.reserved - CONTEXT_BYTES)

    @property
    def is_crowded(self) -> bool:
        """Whether other processes hold more than OTHERS_SHARE of the device."""
        return self.others > OTHERS_SHARE * self.total


class DeviceMemory(Protocol):
    """The memory of a device that has its own; implemented by CudaMemory."""

    def usage(self) -> Usage:
        """The present usage."""

    def start_peak(self) -> None:
        """Set both peaks to the present values."""

    def peak(self) -> tuple[int, int]:
        """The highest allocated and the highest reserved bytes since `start_peak`."""

    def empty_cache(self) -> None:
        """Return the memory that the allocator has reserved and does not use."""


class CudaMemory:
    """A GPU's memory, by torch's functions for CUDA, which ROCm has too."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def usage(self) -> Usage:
        free, total = torch.cuda.mem_get_info(self._device)
        return Usage(free, total, torch.cuda.memory_reserved(self._device), torch.cuda.memory_allocated(self._device))

    def start_peak(self) -> None:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # the reset fails before CUDA is initialised
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> tuple[int, int]:
        return torch.cuda.max_memory_allocated(self._device), torch.cuda.max_memory_reserved(self._device)

    def empty_cache(self) -> None:
        torch.cuda.empty_cache()


def of(device: torch.device) -> DeviceMemory | None:
    """The device's own memory; None if it uses the host's."""
    return CudaMemory(device) if device.type == "cuda" else None


def start_run(device: torch.device) -> None:
    """Reset the peak, so that `peak` returns that of the run that starts now. No entry of a DeviceCache counts as used by it yet."""
    for cache in _caches:
        cache.start_run()
    if (own := of(device)) is not None:
        own.start_peak()
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # `peak` is then the peak of the whole process


def peak(device: torch.device) -> int:
    """Peak bytes of the run: allocated on a GPU, or resident in this process; 0 if the system does not report it.

    What DeviceCaches hold and the run has not used is not counted on a GPU, so that the figure does not depend on earlier runs.
    """
    if (own := of(device)) is not None:
        return max(0, own.peak()[0] - _unused_bytes(device))
    match = re.search(r"^VmHWM:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def needed(device: torch.device) -> int | None:
    """Bytes that a GPU needs for the run: the peak that the allocator reserved, without unused caches, and CONTEXT_BYTES; else None."""
    own = of(device)
    return None if own is None else max(0, own.peak()[1] - _unused_bytes(device)) + CONTEXT_BYTES


def present(device: torch.device) -> int:
    """Current bytes: allocated on a GPU, or resident in this process; 0 if the system does not report it."""
    if (own := of(device)) is not None:
        return own.usage().allocated
    match = re.search(r"^VmRSS:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def release(device: torch.device) -> None:
    """Free the memory that a finished run left on the device."""
    gc.collect()
    if (own := of(device)) is not None:
        own.empty_cache()


WANTED_BYTES = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")
EXHAUSTED = (
    "allocate memory", "out of memory", "bad_alloc", "not enough memory",
    "ALLOC_FAILED", "ALLOCATION_FAILED",  # by cuBLAS and cuDNN, which do not use torch's allocator
)  # fmt: skip
# cuDNN and cuBLAS also report a lack of memory by these texts. torch tries cuDNN's plans one after the other and discards the
# out-of-memory error of each plan's workspace; what remains is "unable to find an engine". A broken library or driver gives the same texts.
MAYBE_EXHAUSTED = (
    "unable to find an engine", "CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_EXECUTION_FAILED",
    "HIPBLAS_STATUS_NOT_INITIALIZED", "HIPBLAS_STATUS_INTERNAL_ERROR", "miopenStatusInternalError",
    "NVML_SUCCESS == r INTERNAL ASSERT",  # by torch's allocator while it writes an out-of-memory message and cannot ask the driver
)  # fmt: skip
ON_GPU = re.compile(r"(?<![A-Z])(?:CUDA|CUBLAS|CUDNN|HIP|MPS|XPU)")
EXHAUSTED_SHARE, EXHAUSTED_BYTES = 0.03, 512 * 2**20  # less left than this share or this amount counts as exhausted


@dataclass(frozen=True, slots=True)
class Lack:
    """Memory that ran out."""

    detail: str  # a sentence
    usage: Usage | None = None  # of the device; None if the host's memory ran out


def lack(error: BaseException, own: DeviceMemory | None = None) -> Lack | None:
    """What ran out if the error means that memory did; None for any other error.

    `own` is the memory of the device of the run. It decides about MAYBE_EXHAUSTED; without it these errors are others. Call it while
    the error is handled: its traceback keeps the run's tensors alive, so that the usage is that of the failure.
    """
    text = str(error)
    certain = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(phrase in text for phrase in EXHAUSTED)
    if not certain and not any(phrase in text for phrase in MAYBE_EXHAUSTED):
        return None
    on_gpu = not certain or isinstance(error, torch.OutOfMemoryError) or ON_GPU.search(text) is not None
    usage = _usage(own) if on_gpu else None
    if not certain and (usage is None or usage.left >= max(EXHAUSTED_SHARE * usage.total, EXHAUSTED_BYTES)):
        return None
    if (asked := WANTED_BYTES.search(text)) is not None:
        amount, _, unit = asked[1].partition(" ")
        where = "the GPU" if on_gpu else "the host"
        text = f"{readable(float(amount)) if unit == 'bytes' else asked[1]} could not be allocated on {where}"
    return Lack((text or "the system refused memory") + (f"; {_described(usage)}" if usage is not None else ""), usage)


def _usage(own: DeviceMemory | None) -> Usage | None:
    """The usage; None if the device cannot be asked, as after an error that the process cannot recover from."""
    try:
        return None if own is None else own.usage()
    except RuntimeError:
        return None


def _described(usage: Usage) -> str:
    kept = sum(cache.total_bytes for cache in _caches)
    held = f"this process held {readable(usage.reserved)} (the run's tensors {readable(max(0, usage.allocated - kept))}"
    held += f", examples and outputs kept for later runs {readable(kept)})"
    return f"of {readable(usage.total)} {held}, other processes {readable(usage.others)}; {readable(usage.free)} was free"


CACHE_SHARE = 1 / 3  # of the memory that this process can still allocate, for the entries of each DeviceCache, which count as free
CachedValue = TypeVar("CachedValue")


@dataclass(slots=True)
class _Entry(Generic[CachedValue]):
    value: CachedValue
    size: int  # bytes
    used: bool = True  # by the present run


class DeviceCache(Generic[CachedValue]):
    """Tensors that this process keeps on its device for later runs, evicted by least recent use.

    The limit of their bytes follows the memory that is free and the share of the device that this process may use. Entries that the
    present run uses are not evicted: they would stay allocated as long as it refers to them.
    """

    def __init__(self) -> None:
        self._entries = OrderedDict[tuple[str, torch.device], _Entry[CachedValue]]()
        _caches.add(self)

    def find(self, key: str, device: torch.device) -> CachedValue | None:
        """The value, used by the present run from now on."""
        if (entry := self._entries.get((key, device))) is None:
            return None
        entry.used = True
        self._entries.move_to_end((key, device))
        return entry.value

    def fits(self, size: int, device: torch.device) -> bool:
        """Whether entries of `size` bytes in total are within the limit; False for a device without memory of its own."""
        return size <= self._limit(device)

    def budget(self, device: torch.device) -> int:
        """Limit of the bytes of all entries on the device."""
        return max(0, self._limit(device))

    def make_room(self, size: int, device: torch.device) -> bool:
        """Evict entries until another of `size` bytes is within the limit. Returns False, without an effect, if that is impossible."""
        limit, held = self._limit(device), self.held_bytes(device)
        if size > limit - held + self.held_bytes(device, unused=True):
            return False
        for place in [place for place, entry in self._entries.items() if place[1] == device and not entry.used]:
            if held + size <= limit:
                break
            held -= self._entries.pop(place).size
        return True

    def keep(self, key: str, device: torch.device, value: CachedValue, size: int) -> None:
        """Add an entry that the present run uses, after `make_room`."""
        self._entries[key, device] = _Entry(value, size)

    def held_bytes(self, device: torch.device, *, unused: bool = False) -> int:
        """Bytes of the entries on the device; with `unused`, of those that the present run has not used."""
        return sum(entry.size for (_, own), entry in self._entries.items() if own == device and not (unused and entry.used))

    @property
    def total_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self._entries.values())

    def shrink(self) -> None:
        """Evict entries that exceed the limit, except those that the present run uses."""
        for device in {device for _, device in self._entries}:
            self.make_room(0, device)

    def start_run(self) -> None:
        """Mark all entries as not used by the present run."""
        for entry in self._entries.values():
            entry.used = False

    def drop(self, device: torch.device) -> None:
        """Remove the entries on the device."""
        for place in [place for place in self._entries if place[1] == device]:
            del self._entries[place]

    def _limit(self, device: torch.device) -> int:
        """Bytes; -1 if nothing may be kept."""
        own = of(device)
        if own is None or not _limits.caching:
            return -1
        usage = own.usage()
        free = min(usage.left, int(_limits.share * usage.total) - usage.allocated)
        return int(CACHE_SHARE * max(0, free + self.held_bytes(device)))


@dataclass(slots=True)
class _Limits:
    share: float = 1.0  # of a device that this process may use; other processes may use the rest
    caching: bool = True


_limits = _Limits()
_caches = WeakSet[DeviceCache[Any]]()


def set_share(share: float) -> None:
    """Set the share of its device that this process may use for caches, and evict what exceeds it. Called between two runs."""
    _limits.share = share
    for cache in _caches:
        cache.start_run()
        cache.shrink()


@contextmanager
def without_caches() -> Iterator[None]:
    """Keep nothing in DeviceCaches within the context, so that the run has the whole device for itself."""
    _limits.caching = False
    try:
        yield
    finally:
        _limits.caching = True


def drop_caches(device: torch.device) -> int:
    """Empty all DeviceCaches of the device, and return their bytes. They are free once no run refers to them and `release` is called."""
    dropped = sum(cache.held_bytes(device) for cache in _caches)
    for cache in _caches:
        cache.drop(device)
    return dropped


def _unused_bytes(device: torch.device) -> int:
    return sum(cache.held_bytes(device, unused=True) for cache in _caches)
