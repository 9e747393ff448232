"""Where the inputs of the trained stages come from: computed for each batch, stored in memory, or read from the cache."""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from trainer import devices
from trainer.cache import Key
from trainer.features import planner as measuring
from trainer.features.frozen_prefix import FrozenPrefix, TensorLayout, digest_of, key_of
from trainer.features.planner import Rates
from trainer.preparation import PreparedRun
from trainer.protocol import Reuse
from trainer.stopwatch import Stopwatch

Sign = TypeVar("Sign")


class Inputs(Protocol):
    """What the part of a model that is trained reads. A view None means the validation examples, which are never augmented."""

    @property
    def depth(self) -> int:
        """How many stages' output it gives; `StagedModel.forward_from` goes on from there."""

    @property
    def reuse(self) -> Reuse:
        """What is read in place of being computed."""

    @property
    def saved_seconds(self) -> float:
        """What reading spared so far, less reading and building; negative as long as building has not paid."""

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Have what the view needs stored. Yields `sign` between batches, so that whoever waits sees that it lives."""

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Tell the rows of the batches to come, in their order, so that they can be fetched ahead."""

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """What goes into the stage behind the first `depth`: [B, ...] of floating point, on the device, as it lies there best."""

    def for_test(self) -> "Inputs":
        """The same of the same depth, with the view None meaning the test examples."""


class Direct:
    """Nothing is stored, so all stages are computed."""

    depth = 0
    saved_seconds = 0.0

    def __init__(self, run: PreparedRun) -> None:
        self._run = run
        self.reuse = Reuse(pixels=run.examples.origin)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Nothing to do."""
        yield from ()

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Examples that are streamed are read ahead."""
        self._run.examples.expect(batches)

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """The input of the first stage [B, ...]."""
        return self._run.examples.take(rows, view)

    def for_test(self) -> "Direct":
        """Every row can be taken."""
        return self


SHARE = 1 / 8  # of the memory that is free, or kept here already
UNKNOWN_BYTES = 2**30  # where the system does not tell what is free


class FeatureDraft(AbstractContextManager["FeatureDraft"], Protocol):
    """An entry that is being built; leaving the context without `commit` abandons it."""

    tensor: Tensor

    def commit(self) -> Tensor:
        """Make it an entry."""


class FeatureStore(Protocol):
    """Where entries are found and built: `trainer.cache.Cache`, or this module's."""

    def find(self, key: Key) -> Tensor | None:
        """The entry, not to be written to; None when absent."""

    def holds(self, key: Key) -> bool:
        """Whether an entry of that name is there."""

    def begin(self, key: Key, shape: Sequence[int], dtype: torch.dtype) -> FeatureDraft | None:
        """A new entry to be filled; None when it finds no room or is being built already."""

    def busy(self, key: Key) -> bool:
        """Whether somebody else is building it."""


class MemoryFeatureStore:
    """Least recently used entries go when there is no more room; who holds a tensor keeps it."""

    def __init__(self) -> None:
        self._entries = OrderedDict[str, Tensor]()

    @property
    def budget(self) -> int:
        """Bytes that all entries may take."""
        free = devices.available()
        return UNKNOWN_BYTES if free is None else int((free + self._held) * SHARE)

    @property
    def _held(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def find(self, key: Key) -> Tensor | None:
        """The entry, if it is still here."""
        if key.digest not in self._entries:
            return None
        self._entries.move_to_end(key.digest)
        return self._entries[key.digest]

    def holds(self, key: Key) -> bool:
        """Whether the entry is still here."""
        return key.digest in self._entries

    def begin(self, key: Key, shape: Sequence[int], dtype: torch.dtype) -> "MemoryFeatureDraft | None":
        """None when it is larger than all that may be kept."""
        budget, size = self.budget, math.prod(shape) * dtype.itemsize
        if size > budget:
            return None
        while self._held + size > budget:
            self._entries.popitem(last=False)
        return MemoryFeatureDraft(self._entries, key.digest, torch.empty(tuple(shape), dtype=dtype))

    def busy(self, key: Key) -> bool:
        """Never: a process trains one run at a time."""
        return False


class MemoryFeatureDraft(nullcontext["MemoryFeatureDraft"]):
    """Becomes an entry only by `commit`."""

    def __init__(self, entries: OrderedDict[str, Tensor], digest: str, tensor: Tensor) -> None:
        super().__init__(self)
        self.tensor = tensor
        self._entries, self._digest = entries, digest

    def commit(self) -> Tensor:
        """Keep it."""
        self._entries[self._digest] = self.tensor
        return self.tensor


POLL_SECONDS = 0.05  # while another process builds
DEVICE_SHARE = 0.25  # of a GPU's memory
PROBES = 5
TRIES = 3  # to build what another process began and left

log = logging.getLogger(__name__)

_on_device: OrderedDict[tuple[str, torch.device], Tensor] = OrderedDict()  # copies on GPUs, for the later runs of this process


class Part:
    """Examples that are stored together, each once, in the order of their contents; and their views."""

    def __init__(self, run: PreparedRun, rows: Tensor, views: int, *, augmented: bool) -> None:
        self.run, self.views, self.augmented = run, views, augmented
        self.rows = torch.unique(rows)  # sorted; a content that lies in several files stands there once
        self._digest = digest_of(run, self.rows)
        self._places = torch.full((len(run.examples.keys),), -1)
        self._places[self.rows] = torch.arange(len(self.rows))

    def places(self, rows: Tensor) -> Tensor:
        """Where those rows lie in an entry."""
        return self._places[rows]

    def stored_view(self, view: int | None) -> int | None:
        """None for unchanged examples."""
        return view if self.augmented else None

    def key(self, chain: FrozenPrefix, depth: int, view: int | None) -> Key:
        """Of the entry that holds the part's output."""
        return key_of(self.run, chain, depth, self._digest, self.stored_view(view))

    def stored_share(self, chain: FrozenPrefix, depth: int, store: FeatureStore) -> float:
        """How much is there already; of many views, three tell for all."""
        asked = {0, self.views // 2, self.views - 1}
        return sum(store.holds(self.key(chain, depth, view)) for view in asked) / len(asked)


class Source:
    """Reads the output of the first `depth` stages; 0 when the part is computed each time."""

    def __init__(  # noqa: PLR0913  (the last has a default)
        self, part: Part, chain: FrozenPrefix, store: FeatureStore, depth: int, rates: Rates, stopwatch: Stopwatch, *, firm: bool = False
    ) -> None:
        """With `firm` it reads even where computing turns out quicker."""
        self.part, self.depth, self._firm = part, depth, firm
        self._chain, self._store, self._rates, self._stopwatch = chain, store, rates, stopwatch
        self._run, self._direct, self._device = part.run, Direct(part.run), part.run.device
        self._entries = dict[int | None, Tensor]()  # by view; what another process evicts stays readable here
        self._examples_read, self._read_seconds, self._build_seconds = 0, 0.0, 0.0
        self._probed = 0.0  # seconds an example when it was tried
        self._given_up = False

    @property
    def reads(self) -> bool:
        """Whether there is anything that it reads, or will once it is built."""
        return self.depth > 0 and not self._given_up

    @property
    def _form(self) -> TensorLayout:
        return self._rates.forms[self.depth - 1]

    @property
    def saved_seconds(self) -> float:
        """Of computing what was read, less reading and building it."""
        return self._examples_read * self._rates.computing(0, self.depth) - self._read_seconds - self._build_seconds

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Have the view's entry open, or give up on storing for good."""
        stored = self.part.stored_view(view)
        if not self.reads or stored in self._entries:
            return
        entry = yield from self._found_or_built(self.part.key(self._chain, self.depth, view), view, sign)
        if entry is None:
            self._give_up("there is no room")
            return
        with self._building():
            self._entries[stored] = self._placed(entry, self.part.key(self._chain, self.depth, view).digest)
            self._probed = self._probe(self._entries[stored])
        if not self._firm and self._probed > (computing := self._rates.computing(0, self.depth)):
            self._give_up(f"reading takes {self._probed:.3g} s an example, computing {computing:.3g} s")

    def read(self, rows: Tensor, view: int | None) -> Tensor | None:
        """The stages' output [B, ...] for those rows; None when it is not stored."""
        if (entry := self._entries.get(self.part.stored_view(view))) is None:
            return None
        started = time.perf_counter()
        found = self._form.output(measuring.gathered(entry, self.part.places(rows), self._device))
        # a GPU works behind the host's back, so there the trial's time stands for all
        self._read_seconds += self._probed * len(rows) if self._device.type == "cuda" else time.perf_counter() - started
        self._examples_read += len(rows)
        return found

    def _give_up(self, reason: str) -> None:
        log.info("the output behind %d stages is computed each time: %s", self.depth, reason)
        self._given_up = True
        self._entries.clear()

    def _found_or_built(self, key: Key, view: int | None, sign: Sign) -> Generator[Sign, None, Tensor | None]:
        shape = (len(self.part.rows), torch.Size(self._form.shape).numel())
        tries = 0
        while tries < TRIES:
            with self._building():
                if (entry := self._store.find(key)) is not None:
                    return entry
                draft = self._store.begin(key, shape, self._form.dtype)
            if draft is not None:
                return (yield from self._built(draft, view, sign))
            if self._store.busy(key):
                with self._building():
                    time.sleep(POLL_SECONDS)
                yield sign
            else:
                tries += 1  # it was finished or left just now, or there is no room
        return None

    def _built(self, draft: FeatureDraft, view: int | None, sign: Sign) -> Generator[Sign, None, Tensor | None]:
        batches = torch.split(self.part.rows, measuring.BATCH)
        log.info("building the output behind %d stages for %d examples, view %s", self.depth, len(self.part.rows), view)
        with draft:
            self._direct.expect(batches, view)
            for batch, rows in enumerate(batches):
                with self._building():
                    output = self._chain.run(self._direct.batch(rows, view), 0, self.depth)
                    draft.tensor[batch * measuring.BATCH :][: len(rows)] = self._form.rows(output).flatten(1)
                yield sign
            try:
                with self._building():
                    return draft.commit()
            except OSError as error:
                log.warning("the output behind %d stages could not be stored: %s", self.depth, error)
                return None

    def _probe(self, entry: Tensor) -> float:
        """Seconds an example of reading it: the quickest of some tries, since other processes only ever make it slower."""
        some = torch.randperm(len(entry), generator=torch.Generator().manual_seed(0))[: measuring.BATCH]
        return min(measuring.seconds_to_gather(entry, some, self._device) for _ in range(PROBES)) / len(some)

    def _placed(self, entry: Tensor, digest: str) -> Tensor:
        """The entry, on a GPU as a copy if all of the part's views find room there."""
        if not fits_device(self._device, entry.nbytes * self.part.views):
            return entry
        place = digest, self._device
        if place not in _on_device:
            while _on_device and not fits_device(self._device, entry.nbytes + sum(copy.nbytes for copy in _on_device.values())):
                _on_device.popitem(last=False)
            _on_device[place] = entry.to(self._device)
        _on_device.move_to_end(place)
        return _on_device[place]

    @contextmanager
    def _building(self) -> Iterator[None]:
        started = time.perf_counter()
        with self._stopwatch("features"):
            yield
        self._build_seconds += time.perf_counter() - started


def fits_device(device: torch.device, size: int) -> bool:
    """Whether so many bytes are within a GPU's share for stored outputs."""
    return device.type == "cuda" and size <= DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory
