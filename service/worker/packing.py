"""How many trials train at once on a GPU, by the memory that they need, the GPU's utilisation and the throughput that was measured."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from service.worker.devices import Device
from service.worker.discovery import Sources, opened_nvml

MOST_SLOTS = 4  # of a GPU
LEAST_TRIALS = 3  # of a study that finished on the GPU, until the memory that a trial needs counts as known
LEAST_EPOCHS, LEAST_SECONDS = 12, 60.0  # with a number of slots, until their throughput counts as known
LEAST_SAMPLES = 20  # of the utilisation with a number of slots, until their mean counts as known
FREE_SAMPLES = 30  # of the free memory; the least one counts
MOST_BUSY = 0.8  # utilisation above which a further trial would wait for the others
LEAST_GAIN = 1.05  # throughput with a further slot over that without it, below which the slot is retired
RESERVE_SHARE = 0.05  # of the GPU's memory that stays free
SAMPLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CardSample:
    """What the driver measures of a GPU at one moment."""

    busy: float  # share of the time in which kernels ran, 0 to 1
    free: int  # bytes
    total: int


def read_card(device: Device, sources: Sources | None = None) -> CardSample:
    """A sample by NVML. Raises Unanswered, as for a MIG slice, whose utilisation NVML does not measure."""
    with opened_nvml(sources or Sources()) as nvml:
        by_index = device.id.isdecimal()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(device.id)) if by_index else nvml.nvmlDeviceGetHandleByUUID(device.id)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return CardSample(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, int(memory.free), int(memory.total))


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFigures:
    """What is known of a GPU and of the study that trains on it."""

    slots: int  # open ones
    most: int  # slots that the study may have
    finished: int  # trials of the study that have finished on the GPU
    need: int | None  # bytes that a trial needs of the GPU: the highest of these trials
    sample: CardSample | None  # mean utilisation and least free memory with these slots; None: not measured for long enough
    rate: float | None  # epochs per second of all trials together with these slots; None: not measured for long enough
    rate_before: float | None  # with one slot less


@dataclass(frozen=True, slots=True)
class PackingDecision:
    """Whether a slot is opened (1) or retired (-1). A `lasting` one is not reversed for the study."""

    change: Literal[-1, 0, 1]
    reason: str
    detail: str = ""  # the figures
    lasting: bool = False


def decide(card: CardFigures) -> PackingDecision:
    """Whether the GPU gets a further slot or loses one."""
    if card.slots > 1 and (reason := _why_fewer(card)) is not None:
        return reason
    return _why_not_more(card) or PackingDecision(1, "a further trial fits", _memory(card))


def _why_fewer(card: CardFigures) -> PackingDecision | None:
    if card.slots > card.most:
        return PackingDecision(-1, "the study may not have so many slots", f"at most {card.most}")
    if card.finished < LEAST_TRIALS:
        return PackingDecision(-1, "it is not known how much memory a trial of the study needs", f"{card.finished} trials have finished")
    if card.rate is not None and card.rate_before is not None and card.rate < LEAST_GAIN * card.rate_before:
        rates = f"{card.rate:.3g} epochs per second with {card.slots} slots, {card.rate_before:.3g} with {card.slots - 1}"
        return PackingDecision(-1, "the last slot did not raise the throughput", rates, lasting=True)
    return None


def _why_not_more(card: CardFigures) -> PackingDecision | None:
    if card.slots >= card.most:
        return PackingDecision(0, "the study may not have more slots", f"{card.slots} of at most {card.most}")
    if card.finished < LEAST_TRIALS:
        return PackingDecision(0, "it is not known yet how much memory a trial of the study needs", f"{card.finished} trials have finished")
    if card.need is None:
        return PackingDecision(0, "the trials report no memory that they need of the GPU")
    if card.sample is None:
        return PackingDecision(0, "the GPU's utilisation is not known")
    if card.sample.busy > MOST_BUSY:
        return PackingDecision(0, "the GPU computes nearly all the time", f"{card.sample.busy:.0%}")
    if card.rate is None:
        return PackingDecision(0, "the throughput with these slots is not known yet")
    reserve = RESERVE_SHARE * card.sample.total
    if card.need + reserve > card.sample.free or (card.slots + 1) * card.need + reserve > card.sample.total:
        return PackingDecision(0, "the GPU has no memory for a further trial", _memory(card))
    return None


def _memory(card: CardFigures) -> str:
    if card.need is None or card.sample is None:
        return ""
    need, free, total = (size / 1e9 for size in (card.need, card.sample.free, card.sample.total))
    return f"a trial needs {need:.1f} GB, {free:.1f} of {total:.1f} GB are free, the GPU computes {card.sample.busy:.0%} of the time"


@dataclass(slots=True)
class _Window:
    """What was measured of a study while all of so many slots trained its trials."""

    seconds: float = 0.0
    epochs: int = 0
    busy: float = 0.0  # sum of the samples
    samples: int = 0
    free: deque[int] = field(default_factory=lambda: deque(maxlen=FREE_SAMPLES))

    @property
    def rate(self) -> float | None:
        """Epochs per second; None before enough was measured."""
        return self.epochs / self.seconds if self.epochs >= LEAST_EPOCHS and self.seconds >= LEAST_SECONDS else None


@dataclass(slots=True)
class _Study:
    """What was measured of a study on one GPU."""

    most: int
    name: str = ""
    finished: int = 0
    need: int | None = None
    windows: dict[int, _Window] = field(default_factory=lambda: defaultdict(_Window))  # by number of slots


@dataclass(slots=True)
class _Order:
    """What a slot trains: a trial, or trials whose heads are trained together."""

    study: str
    trains: bool = False  # False while data and weights are read


class Card:
    """A GPU whose number of slots follows what is measured. Thread-safe: its slots report to it."""

    def __init__(self, device: Device, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """`workers` is the number of workers that use the GPU, this one included. They divide MOST_SLOTS."""
        self.device = device
        self._most, self._workers, self._clock = max(1, MOST_SLOTS // workers), workers, clock
        self._slots = 1
        self._orders = dict[int, _Order]()  # by the index of the slot
        self._studies = dict[str, _Study]()
        self._total = 0  # bytes of memory
        self._at = clock()
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """The number of open slots."""
        return self._slots

    @property
    def share(self) -> float:
        """The share of the memory that each trainer may use for caches, retired slots that still train included."""
        with self._lock:
            return 1 / (max(self._slots, len(self._orders)) * self._workers)

    def is_busy(self, slot: int) -> bool:
        """Whether the slot trains."""
        with self._lock:
            return slot in self._orders

    def began(self, slot: int, study: str, name: str = "") -> None:
        """A slot begins a trial, or trials together, of the study with this id and name."""
        with self._lock:
            self._advance()
            self._study(study).name = name or study
            self._orders[slot] = _Order(study)

    def ended(self, slot: int) -> None:
        """A slot has ended its trials."""
        with self._lock:
            self._advance()
            self._orders.pop(slot, None)

    def trained(self, slot: int, epochs: int = 0) -> None:
        """A slot has trained a batch, or epochs."""
        with self._lock:
            self._advance()
            if (order := self._orders.get(slot)) is not None:
                order.trains = True
            if (window := self._window()) is not None:
                window.epochs += epochs

    def finished(self, study: str, need: int | None) -> None:
        """A trial of the study has finished, and needed so many bytes of the GPU."""
        with self._lock:
            known = self._study(study)
            known.finished += 1
            if need is not None:
                known.need = max(need, known.need or 0)

    def sample(self, sample: CardSample) -> None:
        """Count the sample if all open slots train trials of one study."""
        with self._lock:
            self._advance()
            self._total = sample.total
            if (window := self._window()) is not None and all(order.trains for order in self._orders.values()):
                window.busy += sample.busy
                window.samples += 1
                window.free.append(sample.free)

    def exhausted(self, study: str) -> bool:
        """A trial of the study ran out of memory. If others share the GPU, lowers the study's slots and returns True."""
        with self._lock:
            if self._slots == 1 and len(self._orders) < 2:
                return False
            known = self._study(study)
            known.most = max(1, min(known.most, self._slots - 1))
            return True

    def opened(self) -> None:
        """A slot was opened."""
        with self._lock:
            self._advance()
            self._slots += 1

    def retired(self) -> None:
        """A slot was retired; it may still train."""
        with self._lock:
            self._advance()
            self._slots = max(1, self._slots - 1)

    def decision(self) -> tuple[str, PackingDecision] | None:
        """The decision and the name of the study whose figures it follows from; None while the GPU is idle.

        While trials of several studies train, a slot is retired if one of the studies has too many, and none is opened.
        """
        with self._lock:
            studies = sorted({order.study for order in self._orders.values()})
            decisions = [(self._study(study), decide(self._figures(study))) for study in studies]
            found = next((one for one in decisions if one[1].change < 0), decisions[0] if len(decisions) == 1 else None)
            if found is None:
                return None
            study, decision = found
            if decision.lasting:
                study.most = self._slots - 1
            return study.name, decision

    def _figures(self, study: str) -> CardFigures:
        known = self._study(study)
        window = known.windows[self._slots]
        measured = window.samples >= LEAST_SAMPLES and bool(window.free)
        return CardFigures(
            slots=self._slots,
            most=known.most,
            finished=known.finished,
            need=known.need,
            sample=CardSample(window.busy / window.samples, min(window.free), self._total) if measured else None,
            rate=window.rate,
            rate_before=known.windows[self._slots - 1].rate,
        )

    def _study(self, study: str) -> _Study:
        return self._studies.setdefault(study, _Study(self._most))

    def _window(self) -> _Window | None:
        """The measurements of the study that all open slots train; None if they do not."""
        studies = {order.study for order in self._orders.values()}
        if len(self._orders) != self._slots or len(studies) != 1:
            return None
        return self._study(studies.pop()).windows[self._slots]

    def _advance(self) -> None:
        """Count the time since the last change."""
        now = self._clock()
        if (window := self._window()) is not None:
            window.seconds += now - self._at
        self._at = now
