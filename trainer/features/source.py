"""Sources of the trained part's inputs: computed for each batch, stored in memory, or read from the cache."""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from trainer import memory, transfers
from trainer.cache import CacheKey
from trainer.features import planner as measuring
from trainer.features.frozen_prefix import FrozenPrefix, Layout, SequenceLayout, digest_of, key_of, stored_rows
from trainer.features.planner import Rates
from trainer.order import RowsAhead
from trainer.preparation import PreparedRun, inference_batch
from trainer.protocol import Reuse
from trainer.sequences import Features, Sequences, places_of, starts_of
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import Ragged
from trainer.transfers import HostCopies, Lookup, Prefetcher, device_event, sent

Sign = TypeVar("Sign")


class Inputs(Protocol):
    """The inputs of the trained part of a model. View None means the validation examples, which are never augmented."""

    @property
    def depth(self) -> int:
        """The number of stages whose output `batch` returns; pass it to `StagedModel.forward_from`."""

    @property
    def reuse(self) -> Reuse:
        """The stored data that is read in place of computing, for the report."""

    @property
    def saved_seconds(self) -> float:
        """Seconds of computing that reading has replaced so far, less the seconds of reading and building. Negative until building pays."""

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Make the stored output of the view available. Yields `sign` between batches, as a sign of progress."""

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Announce the rows of the next batches in order, so that they can be fetched ahead."""

    def batch(self, rows: Tensor, view: int | None) -> Features:
        """The input of the stage behind the first `depth`: floating point [B, ...] on the device, in the memory order that it prefers."""

    def for_test(self) -> "Inputs":
        """Inputs of the same depth whose view None means the test examples."""


class Direct:
    """The examples themselves: nothing is stored, all stages are computed."""

    depth = 0
    saved_seconds = 0.0

    def __init__(self, run: PreparedRun) -> None:
        self._run = run
        self.reuse = Reuse(pixels=run.examples.origin)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Nothing to do."""
        yield from ()

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Announce the batches to examples that are streamed."""
        self._run.examples.expect(batches)

    def batch(self, rows: Tensor, view: int | None) -> Features:
        """The input of the first stage [B, ...]."""
        return self._run.examples.take(rows, view)

    def for_test(self) -> "Direct":
        """Itself: every row can be taken."""
        return self


SHARE = 1 / 8  # of the free memory, counting memory held here as free
UNKNOWN_BYTES = 2**30  # budget if the amount of free memory is unknown


class FeatureDraft(AbstractContextManager["FeatureDraft"], Protocol):
    """An entry under construction. Leaving the context without `commit` discards it."""

    tensor: Tensor

    def commit(self) -> Tensor:
        """Make the draft an entry, and return its tensor."""

    def commit_later(self) -> None:
        """Make the draft an entry in the background. Its tensor must not be written to any more."""


class FeatureStore(Protocol):
    """Finds and builds entries; implemented by `trainer.cache.Cache` and MemoryFeatureStore."""

    def find(self, key: CacheKey) -> Tensor | None:
        """The entry, read-only; None if it is absent."""

    def holds(self, key: CacheKey) -> bool:
        """Whether the entry exists."""

    def begin(self, key: CacheKey, shape: Sequence[int], dtype: torch.dtype) -> FeatureDraft | None:
        """Begin a new entry; None if it does not fit or is being built already."""

    def busy(self, key: CacheKey) -> bool:
        """Whether another thread or process is building the entry."""

    def wait(self) -> None:
        """Wait for drafts of this process that become entries in the background."""


class MemoryFeatureStore:
    """Entries in the memory of this process, evicted by least recent use. A tensor in use stays valid after its eviction."""

    def __init__(self) -> None:
        self._entries = OrderedDict[str, Tensor]()

    @property
    def budget(self) -> int:
        """Limit of the bytes of all entries."""
        free = memory.available()
        return UNKNOWN_BYTES if free is None else int((free + self._held) * SHARE)

    @property
    def _held(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def find(self, key: CacheKey) -> Tensor | None:
        """The entry; None if it is absent or was evicted."""
        if key.digest not in self._entries:
            return None
        self._entries.move_to_end(key.digest)
        return self._entries[key.digest]

    def holds(self, key: CacheKey) -> bool:
        """Whether the entry exists."""
        return key.digest in self._entries

    def begin(self, key: CacheKey, shape: Sequence[int], dtype: torch.dtype) -> "MemoryFeatureDraft | None":
        """Begin a new entry and evict others for it; None if it is larger than the budget."""
        budget, size = self.budget, math.prod(shape) * dtype.itemsize
        if size > budget:
            return None
        while self._held + size > budget:
            self._entries.popitem(last=False)
        return MemoryFeatureDraft(self._entries, key.digest, torch.empty(tuple(shape), dtype=dtype))

    def busy(self, key: CacheKey) -> bool:
        """Never: a process trains one run at a time."""
        return False

    def wait(self) -> None:
        """Nothing to do."""


class MemoryFeatureDraft(nullcontext["MemoryFeatureDraft"]):
    """A draft of MemoryFeatureStore."""

    def __init__(self, entries: OrderedDict[str, Tensor], digest: str, tensor: Tensor) -> None:
        super().__init__(self)
        self.tensor = tensor
        self._entries, self._digest = entries, digest

    def commit(self) -> Tensor:
        """Add the tensor to the store."""
        self._entries[self._digest] = self.tensor
        return self.tensor

    def commit_later(self) -> None:
        """As `commit`, which takes no time."""
        self.commit()


POLL_SECONDS = 0.05  # while another process builds
PROBES = 5
BATCHES_PER_WAIT = 8  # batches that an accelerator computes and copies between two reports of progress
TRIES = 3  # to find or begin an entry that another process has just finished or abandoned

log = logging.getLogger(__name__)

ON_DEVICE = memory.DeviceCache[Tensor]()  # copies of entries


class StoredExamples:
    """Examples whose outputs are stored in one entry for each view, each example once, in the order of their contents."""

    def __init__(self, run: PreparedRun, rows: Tensor, views: int, *, augmented: bool) -> None:
        self.run, self.views, self.augmented = run, views, augmented
        self.rows = torch.unique(rows)  # sorted; a content of several files is stored once
        self._digest = digest_of(run, self.rows)
        self._places = torch.full((len(run.examples.keys),), -1)  # [N], by row: its index among the part's examples
        self._places[self.rows] = torch.arange(len(self.rows))
        self._lengths = run.examples.lengths[self.rows] if isinstance(run.examples, Ragged) else None
        self._starts = None if self._lengths is None else starts_of(self._lengths)

    def places(self, rows: Tensor) -> Tensor:
        """The indices of those rows in an entry with a row for each example."""
        return self._places[rows]

    def places_of_positions(self, rows: Tensor) -> Tensor:
        """The indices of those rows in an entry with a row for each position: int64 [B * T], for sequences padded to the longest, T."""
        assert self._lengths is not None and self._starts is not None  # noqa: S101  (the layout is that of sequences)
        own = self._places[rows]
        return places_of(self._starts[own], self._lengths[own]).flatten()

    def lengths(self, rows: Tensor) -> Tensor:
        """The lengths of those rows' sequences, int64 [B]."""
        assert self._lengths is not None  # noqa: S101  (as above)
        return self._lengths[self._places[rows]]

    def entry_shape(self, layout: Layout) -> tuple[int, int]:
        """The shape of an entry with the part's output."""
        count = len(self.rows)
        if isinstance(layout, SequenceLayout):
            assert self._lengths is not None  # noqa: S101  (as above)
            count = int(self._lengths.sum())
        return count, torch.Size(layout.shape).numel()

    def bytes_of(self, layout: Layout) -> int:
        """Bytes of an entry with the part's output."""
        return self.entry_shape(layout)[0] * layout.size

    def stored_view(self, view: int | None) -> int | None:
        """The view in the key; None if the examples are not augmented."""
        return view if self.augmented else None

    def key(self, prefix: FrozenPrefix, depth: int, view: int | None) -> CacheKey:
        """The key of the entry with the part's output."""
        return key_of(self.run, prefix, depth, self._digest, self.stored_view(view))

    def stored_share(self, prefix: FrozenPrefix, depth: int, store: FeatureStore) -> float:
        """The share of the views that is stored already, estimated by the first, the middle and the last one."""
        asked = {0, self.views // 2, self.views - 1}
        return sum(store.holds(self.key(prefix, depth, view)) for view in asked) / len(asked)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """An entry that is read."""

    tensor: Tensor
    lookup: Lookup | None  # if it is on the host


def _looked_up(entry: Tensor, part: StoredExamples, layout: Layout, rows: Tensor) -> tuple[Tensor, Tensor]:
    return entry, part.places_of_positions(rows) if isinstance(layout, SequenceLayout) else part.places(rows)


class Source:
    """Reads the stored output of the first `depth` stages for one part; depth 0 means that nothing is stored."""

    def __init__(  # noqa: PLR0913  (the last has a default)
        self,
        part: StoredExamples,
        prefix: FrozenPrefix,
        store: FeatureStore,
        depth: int,
        rates: Rates,
        stopwatch: Stopwatch,
        *,
        always_read: bool = False,
    ) -> None:
        """With `always_read` it reads even if computing is found to be quicker."""
        self.part, self.depth, self._always_read = part, depth, always_read
        self._prefix, self._store, self._rates, self._stopwatch = prefix, store, rates, stopwatch
        self._run, self._direct, self._device = part.run, Direct(part.run), part.run.device
        self._entries = dict[int | None, _Opened]()  # by view; a mapping stays readable after another process evicts the file
        self._examples_read, self._read_seconds, self._build_seconds = 0, 0.0, 0.0
        self._probed = 0.0  # seconds to read one example, as measured by `_probe`
        self._disabled = False
        self._ahead = RowsAhead(self._device)  # places in an entry that is on the device
        queue = transfers.copy_queue(self._device)
        self._prefetcher = None if queue is None else Prefetcher(queue)  # of entries that are on the host

    @property
    def reads(self) -> bool:
        """Whether stored output is read, or will be once it is built."""
        return self.depth > 0 and not self._disabled

    @property
    def _form(self) -> Layout:
        return self._rates.forms[self.depth - 1]

    @property
    def saved_seconds(self) -> float:
        """As `Inputs.saved_seconds`."""
        return self._examples_read * self._rates.computing(0, self.depth) - self._read_seconds - self._build_seconds

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Open or build the view's entry, or disable storing for the rest of the run."""
        stored = self.part.stored_view(view)
        if not self.reads or stored in self._entries:
            return
        entry = yield from self._found_or_built(self.part.key(self._prefix, self.depth, view), view, sign)
        if entry is None:
            self._disable("there is no room for it")
            return
        with self._building():
            digest = self.part.key(self._prefix, self.depth, view).digest
            placed = self._placed(entry, digest)
            on_host = ON_DEVICE.find(digest, self._device) is None
            self._entries[stored] = _Opened(placed, partial(_looked_up, placed, self.part, self._form) if on_host else None)
            self._probed = self._probe(placed)
        if not self._always_read and self._probed > (computing := self._rates.computing(0, self.depth)):
            self._disable(f"reading an example takes {self._probed:.3g} s, computing it {computing:.3g} s")

    def expect(self, batches: Sequence[Tensor], view: int | None) -> None:
        """Announce the rows of the next calls of `read`."""
        if (entry := self._entries.get(self.part.stored_view(view))) is None:
            return
        if self._prefetcher is not None and entry.lookup is not None:
            self._prefetcher.expect(batches, entry.lookup)
        elif not isinstance(self._form, SequenceLayout):
            self._ahead.expect(batches, self.part.places)

    def read(self, rows: Tensor, view: int | None) -> Features | None:
        """The output [B, ...] for those rows; None if it is not stored."""
        if (entry := self._entries.get(self.part.stored_view(view))) is None:
            return None
        started = time.perf_counter()
        found = self._gathered(entry, rows)
        # A GPU runs asynchronously, so the host's clock would not measure the copy; there the probe's rate is used for every read.
        self._read_seconds += self._probed * len(rows) if self._device.type == "cuda" else time.perf_counter() - started
        self._examples_read += len(rows)
        return found

    def _gathered(self, entry: _Opened, rows: Tensor) -> Features:
        form = self._form
        if self._prefetcher is not None and entry.lookup is not None:
            stored = self._prefetcher.take(rows, entry.lookup)
        elif isinstance(form, SequenceLayout):
            stored = measuring.gathered(entry.tensor, self.part.places_of_positions(rows), self._device)
        else:
            places = self._ahead.of(rows)
            stored = measuring.gathered(entry.tensor, self.part.places(rows) if places is None else places, self._device)
        if isinstance(form, SequenceLayout):
            return Sequences(stored.view(len(rows), -1, *form.shape), sent(self.part.lengths(rows), self._device))
        return form.output(stored)

    def _disable(self, reason: str) -> None:
        log.info("the output of %d stages is not stored but computed in each epoch: %s", self.depth, reason)
        self._disabled = True
        self._entries.clear()

    def _found_or_built(self, key: CacheKey, view: int | None, sign: Sign) -> Generator[Sign, None, Tensor | None]:
        if (known := ON_DEVICE.find(key.digest, self._device)) is not None:
            return known
        shape, tries = self.part.entry_shape(self._form), 0
        while tries < TRIES:
            with self._building():
                if (entry := self._store.find(key)) is not None:
                    return entry
                draft = self._store.begin(key, shape, self._form.dtype)
            if draft is not None:
                return (yield from self._built(draft, key, view, sign))
            if self._store.busy(key):
                with self._building():
                    time.sleep(POLL_SECONDS)
                yield sign
            else:
                tries += 1  # another process has just finished or abandoned it, or it does not fit
        return (yield from self._built(None, key, view, sign))

    def _built(self, draft: FeatureDraft | None, key: CacheKey, view: int | None, sign: Sign) -> Generator[Sign, None, Tensor | None]:
        """Compute the entry: on the device if it has room for all views, and in the draft, if there is one; None if there is no place."""
        with self._building():
            kept = self._room_on_device(self.part.entry_shape(self._form))
        places = [HostCopies(draft.tensor, device_event(self._device))] if draft is not None else []
        places += [HostCopies(kept, None)] if kept is not None else []
        if not places:
            return None
        size = inference_batch(self._run)
        batches = torch.split(self.part.rows, size or measuring.BATCH)
        log.info("building the output of %d stages for %d examples, view %s", self.depth, len(self.part.rows), view)
        first = 0
        with draft or nullcontext():
            self._direct.expect(batches, view)
            # The stopwatch waits for the device at the end of each group. Within a group, computing and copying overlap.
            together = 1 if size is None else BATCHES_PER_WAIT
            for start in range(0, len(batches), together):
                with self._building():
                    for rows in batches[start : start + together]:
                        found = stored_rows(self._prefix.run(self._direct.batch(rows, view), 0, self.depth), self._form)
                        for place in places:
                            place.write(first, found)
                        first += len(found)
                    for place in places:
                        place.finish()
                yield sign
            if kept is not None:
                ON_DEVICE.keep(key.digest, self._device, kept, kept.nbytes)
                if draft is not None:
                    with self._building():  # while the copy of the view before is hashed
                        draft.commit_later()
                return kept
            assert draft is not None  # noqa: S101  (one of the two is the place)
            try:
                with self._building():
                    return draft.commit()
            except OSError as error:
                log.warning("the output of %d stages could not be stored: %s", self.depth, error)
                return None

    def _room_on_device(self, shape: tuple[int, int]) -> Tensor | None:
        """Memory of the device for an entry; None if it has no room for all views."""
        size = math.prod(shape) * self._form.dtype.itemsize
        if not ON_DEVICE.fits(size * self.part.views, self._device) or not ON_DEVICE.make_room(size, self._device):
            return None
        return torch.empty(shape, dtype=self._form.dtype, device=self._device)

    def _probe(self, entry: Tensor) -> float:
        """Seconds to read one example: the quickest of PROBES tries, since other processes can only make a try slower."""
        count = measuring.BATCH if self._device.type == "cpu" else max(measuring.BATCH, measuring.DEVICE_SAMPLE_BYTES // entry[0].nbytes)
        some = torch.randperm(len(entry), generator=torch.Generator().manual_seed(0))[:count]
        seconds = min(measuring.seconds_to_gather(entry, some, self._device) for _ in range(PROBES)) / len(some)
        return seconds * len(entry) / len(self.part.rows)  # an example has several rows if it is a sequence

    def _placed(self, entry: Tensor, digest: str) -> Tensor:
        """The entry, copied to the GPU if all views of the part fit there."""
        if (known := ON_DEVICE.find(digest, self._device)) is not None:
            return known
        all_fit = ON_DEVICE.fits(entry.nbytes * self.part.views, self._device)
        if not all_fit or not ON_DEVICE.make_room(entry.nbytes, self._device):
            return entry
        copied = entry.to(self._device)
        ON_DEVICE.keep(digest, self._device, copied, copied.nbytes)
        return copied

    @contextmanager
    def _building(self) -> Iterator[None]:
        started = time.perf_counter()
        with self._stopwatch("features"):
            yield
        self._build_seconds += time.perf_counter() - started
