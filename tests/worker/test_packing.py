"""The number of slots on a GPU by measured memory, utilisation and throughput: the decision, its figures, and a worker that obeys."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from service import operations
from service.domain.records import Study
from service.domain.states import TrialState
from service.store import Store, queries
from service.worker import packing, slot_runner
from service.worker.devices import Device, layout_of
from service.worker.discovery import Sources, Unanswered
from service.worker.packing import Card, CardFigures, CardSample, decide, read_card
from tests.worker.conftest import Shop

GB = 10**9
GPU = Device("GPU-1", "cuda", "NVIDIA H100", "0", 80 * GB)
MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Shop]
Until = Callable[..., None]

ROOM = CardSample(busy=0.4, free=60 * GB, total=80 * GB)
ONE = CardFigures(slots=1, most=4, finished=3, need=10 * GB, sample=ROOM, rate=1.0, rate_before=None)
TWO = replace(ONE, slots=2, rate=1.8, rate_before=1.0)


@pytest.mark.parametrize(
    ("figures", "change", "reason"),
    [
        (ONE, 1, "a further trial fits"),
        (TWO, 1, "a further trial fits"),
        (replace(ONE, finished=2), 0, "it is not known yet how much memory"),
        (replace(ONE, need=None), 0, "report no memory"),
        (replace(ONE, sample=None), 0, "utilisation is not known"),
        (replace(ONE, sample=replace(ROOM, busy=0.81)), 0, "computes nearly all the time"),
        (replace(ONE, sample=replace(ROOM, busy=0.8)), 1, "a further trial fits"),
        (replace(ONE, rate=None), 0, "throughput with these slots is not known yet"),
        (replace(ONE, need=56 * GB), 0, "no memory"),
        (replace(ONE, sample=replace(ROOM, free=14 * GB)), 1, "a further trial fits"),
        (replace(ONE, sample=replace(ROOM, free=13 * GB)), 0, "no memory"),
        (replace(ONE, need=39 * GB), 0, "no memory"),  # it is free only until the running trial has reached its peak
        (replace(ONE, need=38 * GB), 1, "a further trial fits"),
        (replace(ONE, most=1), 0, "may not have more slots"),
        (replace(TWO, most=1), -1, "may not have so many slots"),
        (replace(TWO, finished=0, need=None), -1, "it is not known how much memory"),
        (replace(TWO, rate=1.04), -1, "did not raise the throughput"),
        (replace(TWO, rate=1.06), 1, "a further trial fits"),
        (replace(TWO, rate=None), 0, "throughput with these slots is not known yet"),
        (replace(TWO, rate=1.06, sample=replace(ROOM, busy=0.9)), 0, "computes nearly all the time"),
        (replace(TWO, slots=4, rate=4.0, rate_before=3.0), 0, "may not have more slots"),
        (replace(TWO, slots=4, rate=3.0, rate_before=3.0), -1, "did not raise the throughput"),
    ],
)
def test_a_slot_is_opened_or_retired_by_what_is_measured(figures: CardFigures, change: int, reason: str) -> None:
    decision = decide(figures)
    assert decision.change == change and reason in decision.reason, decision
    assert decision.lasting is ("throughput" in decision.reason and change < 0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def card(clock: Clock) -> Card:
    return Card(GPU, clock=clock)


def train(card: Card, clock: Clock, slots: int, epoch_seconds: float, study: str = "a", need: int = 10 * GB) -> None:
    """Three trials on each of the slots, which train at once, for 120 seconds in all."""
    for _ in range(3):
        for slot in range(slots):
            card.began(slot, study)
            card.trained(slot)
        for _ in range(20):
            clock.now += epoch_seconds
            card.sample(ROOM)
            for slot in range(slots):
                card.trained(slot, epochs=1)
        for slot in range(slots):
            card.finished(study, need)
            card.ended(slot)


def change(card: Card, study: str = "a") -> int:
    """The decision while all slots train."""
    for slot in range(card.slots):
        card.began(slot, study)
    found = card.decision()
    for slot in range(card.slots):
        card.ended(slot)
    assert found is not None
    return found[1].change


def test_a_slot_that_raises_the_throughput_stays_and_one_that_does_not_is_retired_for_good(card: Card, clock: Clock) -> None:
    assert card.decision() is None and change(card) == 0
    train(card, clock, 1, 2.0)
    assert change(card) == 1
    card.opened()
    assert change(card) == 0, "its throughput is not known"
    train(card, clock, 2, 3.0)
    assert change(card) == 1, "1.33 times the throughput of one slot"
    card.opened()
    train(card, clock, 3, 4.5)
    assert change(card) == -1, "three are as fast as two"
    card.retired()
    assert (card.slots, change(card)) == (2, 0), "the third is not opened again"


def test_time_in_which_a_slot_has_no_trial_does_not_count(card: Card, clock: Clock) -> None:
    train(card, clock, 1, 2.0)
    card.opened()
    card.began(0, "a")
    for _ in range(50):
        clock.now += 2.0
        card.trained(0, epochs=1)
        card.sample(CardSample(1.0, 0, 80 * GB))
    card.ended(0)
    train(card, clock, 2, 2.0)
    assert change(card) == 1, "neither the samples nor the epochs of one trial alone"


def test_another_study_begins_with_one_slot_and_keeps_its_own_figures(card: Card, clock: Clock) -> None:
    train(card, clock, 1, 2.0)
    card.opened()
    card.began(0, "a")
    card.began(1, "b")
    found = card.decision()
    assert found is not None and (found[0], found[1].change) == ("b", -1)
    card.retired()
    card.ended(0)
    card.ended(1)
    assert change(card, "b") == 0 and change(card, "a") == 1


def test_no_slot_is_opened_while_trials_of_two_studies_train(card: Card, clock: Clock) -> None:
    train(card, clock, 1, 2.0)
    train(card, clock, 1, 2.0, "b")
    card.opened()
    train(card, clock, 2, 2.0)
    train(card, clock, 2, 2.0, "b")
    assert change(card, "a") == change(card, "b") == 1
    card.began(0, "a")
    card.began(1, "b")
    assert card.decision() is None


def test_a_lack_of_memory_lowers_the_slots_of_the_study_only_while_others_share_the_gpu(card: Card, clock: Clock) -> None:
    train(card, clock, 1, 2.0)
    card.began(0, "a")
    assert not card.exhausted("a"), "the trial is alone"
    card.opened()
    assert card.exhausted("a") and change(card) == -1
    card.retired()
    card.began(0, "a")
    card.began(1, "a")
    assert card.exhausted("a"), "the retired slot still trains"
    card.ended(1)
    assert not card.exhausted("a")
    assert change(card) == 0, "no slot is opened again"


def test_the_memory_for_caches_is_divided_by_the_slots_that_train(card: Card) -> None:
    assert card.share == 1.0
    card.opened()
    card.opened()
    assert card.share == pytest.approx(1 / 3)
    for slot in range(3):
        card.began(slot, "a")
    card.retired()
    card.retired()
    assert card.share == pytest.approx(1 / 3), "retired slots still train"
    card.ended(1)
    card.ended(2)
    assert card.share == 1.0
    assert Card(GPU, workers=2).share == 0.5


def test_workers_on_one_gpu_divide_its_slots(clock: Clock) -> None:
    card = Card(GPU, workers=4, clock=clock)
    train(card, clock, 1, 2.0)
    assert change(card) == 0


class NVMLError(Exception):
    pass


class Nvml:
    """A stand-in for the module pynvml with one card."""

    NVMLError = NVMLError

    def __init__(self, busy: float | None = 0.3, free: int = 60 * GB) -> None:
        self.busy, self.free, self.opened = busy, free, 0

    def __call__(self) -> "Nvml":
        return self

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"index {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        if handle not in ("GPU-1", "index 0"):
            raise NVMLError("Not Found")
        return SimpleNamespace(free=self.free, total=80 * GB)

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        if self.busy is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=round(100 * self.busy))


def test_nvml_samples_a_card_by_its_uuid_or_index() -> None:
    nvml = Nvml()
    assert read_card(GPU, Sources(nvml=nvml)) == CardSample(0.3, 60 * GB, 80 * GB)
    assert read_card(replace(GPU, id="0"), Sources(nvml=nvml)).busy == 0.3 and nvml.opened == 0


@pytest.mark.parametrize(
    ("sources", "device", "reason"),
    [
        (Sources(nvml=Nvml(busy=None)), GPU, "NVML: Not Supported"),
        (Sources(nvml=Nvml()), replace(GPU, id="GPU-2"), "NVML: Not Found"),
        (Sources(nvml=lambda: __import__("no_such_module")), GPU, "nvidia-ml-py is not found"),
    ],
)
def test_a_card_that_cannot_be_sampled_states_why(sources: Sources, device: Device, reason: str) -> None:
    with pytest.raises(Unanswered, match=reason):
        read_card(device, sources)


@pytest.fixture
def packed_shop(shop: OpenShop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., Shop]:
    """Opens a worker on one GPU, whose number of slots is automatic and decided after seconds."""
    for name, value in {
        "LEAST_TRIALS": 2, "LEAST_EPOCHS": 8, "LEAST_SECONDS": 1.0, "LEAST_SAMPLES": 3, "SAMPLE_SECONDS": 0.05, "LEAST_GAIN": 1.5,
        "MOST_SLOTS": 2,
    }.items():  # fmt: skip
        monkeypatch.setattr(packing, name, value)
    monkeypatch.setattr(slot_runner, "CROWDED", (0.2, 0.4))
    caplog.set_level("INFO")

    def one(nvml: Nvml, *options: str) -> Shop:
        monkeypatch.setattr(packing, "read_card", partial(read_card, sources=Sources(nvml=nvml)))
        layout = replace(layout_of([GPU], 4), packed_by=1)
        return shop("--slow-epoch", "0.1", "--device-memory", str(10 * GB), *options, layout=layout)

    return one


def slots_of(store: Store, opened: Shop) -> int:
    return next((one.slots for one in store.read(queries.workers) if one.id == opened.worker.id), 0)


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [line for line in caplog.messages if text in line]


def test_a_second_slot_is_opened_when_a_trial_needs_little_and_it_stays_when_the_throughput_rises(
    packed_shop: Callable[..., Shop], make_study: MakeStudy, store: Store, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study(*["train"] * 12, fixed={"epochs": 15})
    opened = packed_shop(Nvml())
    until(lambda: slots_of(store, opened) == 2)
    until(lambda: sum(trial.state is TrialState.RUNNING for trial in store.read(queries.trials, study.id)) == 2)
    assert {trial.state for trial in opened.trials_at_end(study)} == {TrialState.COMPLETE}
    assert slots_of(store, opened) == 2 and not lines(caplog, "retired")
    shares = [trial.result["environment"]["share"] for trial in store.read(queries.trials, study.id)]
    assert (shares[0], shares[-1]) == ("1.0", "0.5"), "of the memory for caches"
    [line] = lines(caplog, "a slot is opened")
    assert study.name in line
    assert "NVIDIA H100 #0" in line and "a trial needs 10.0 GB, 60.0 of 80.0 GB are free, the GPU computes 30% of the time" in line


def test_a_slot_that_does_not_raise_the_throughput_drains_and_is_not_opened_again(
    packed_shop: Callable[..., Shop], make_study: MakeStudy, store: Store, until: Until, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    study = make_study(*["train"] * 12, fixed={"epochs": 15})
    opened = packed_shop(Nvml(), "--takes-turns", str(tmp_path / "turn"))
    until(lambda: slots_of(store, opened) == 2)
    until(lambda: slots_of(store, opened) == 1)
    trials = opened.trials_at_end(study)
    assert {(trial.state, trial.attempt) for trial in trials} == {(TrialState.COMPLETE, 1)}, "no trial is killed"
    assert len(lines(caplog, "a slot is opened")) == 1 == len(lines(caplog, "the last slot did not raise the throughput"))
    until(lambda: len(opened.worker._runners) == 1)


def test_a_lack_of_memory_on_a_shared_gpu_gives_the_trial_back_and_lowers_the_slots(
    packed_shop: Callable[..., Shop], make_study: MakeStudy, store: Store, until: Until, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    study = make_study(*["train"] * 8, fixed={"epochs": 15})
    opened = packed_shop(Nvml(), "--alone", str(tmp_path / "memory"))
    trials = opened.trials_at_end(study)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    attempts = [attempt for trial in trials for attempt in store.read(queries.attempts, trial.id)]
    released = [attempt.detail for attempt in attempts if attempt.ending == "released"]
    assert released and set(released) == {"other trials hold memory of the GPU: the toy has no memory left"}
    until(lambda: slots_of(store, opened) == 1)
    assert len(lines(caplog, "a slot is opened")) == 1 == len(lines(caplog, "the study may not have so many slots"))


def test_without_a_measured_utilisation_no_slot_is_opened(
    packed_shop: Callable[..., Shop], make_study: MakeStudy, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    opened = packed_shop(Nvml(busy=None))
    assert {trial.state for trial in opened.trials_at_end(make_study(*["train"] * 4, fixed={"epochs": 15}))} == {TrialState.COMPLETE}
    assert slots_of(store, opened) == 1 and not lines(caplog, "a slot is opened")
    assert len(lines(caplog, "because its utilisation cannot be measured: NVML: Not Supported")) == 1


def test_a_fixed_number_of_slots_is_not_changed(shop: OpenShop, make_study: MakeStudy, store: Store) -> None:
    opened = shop("--device-memory", str(GB), layout=layout_of([GPU], 4))
    opened.trials_at_end(make_study(*["train"] * 4))
    assert slots_of(store, opened) == 1 and not opened.worker._cards
    operations.drain_worker(store, opened.worker.id)
