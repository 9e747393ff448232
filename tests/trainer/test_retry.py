"""Memory of a device that runs out: what is kept there is dropped, and the run is tried once more. The device is a stand-in."""

import queue
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.cards import Card
from trainer import loop, memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints
from trainer.data.images import examples
from trainer.features.source import ON_DEVICE
from trainer.heads import HeadEnsemble
from trainer.host import Host, release_when_idle
from trainer.learners import Member, ModelLearner
from trainer.loop import TrainingLoop, train
from trainer.pipes import Orders, UnreadableOrder
from trainer.protocol import BatchedRuns, CheckpointSaved, EpochMetrics, Failed, Finished, Run, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import build

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]
MB = 10**6


class Exhausting:
    """Raises an out-of-memory error in the steps of these numbers, counted from 1 over all tries, in place of taking them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[ModelLearner | HeadEnsemble], *steps: int) -> None:
        self.steps, self.done, self.raised = steps, 0, 0
        self.kept = list[int]()  # bytes in DeviceCaches at each step
        step = kind.step

        def exhausting(learner: Any, batch: int, features: Tensor, targets: Tensor) -> Any:
            self.done += 1
            self.kept.append(sum(cache.total_bytes for cache in memory._caches))
            if self.done in self.steps:
                self.raised += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return step(learner, batch, features, targets)

        monkeypatch.setattr(kind, "step", exhausting)


def told(config: ImageClassificationConfig, **options: Any) -> list[Any]:
    return [fact for fact in train(config, device=CPU, **options) if fact.kind != "advanced"]


def plain(facts: list[Any]) -> list[Any]:
    """What must be equal with and without a second try: everything but times, memory and checkpoints."""
    outcome = {"train_seconds", "peak_memory", "device_memory"}
    found = list[Any]()
    for fact in facts:
        if isinstance(fact, EpochMetrics):
            found.append((fact.lane, fact.step, dict(fact.metrics)))
        elif isinstance(fact, Finished):
            found.append(fact.model_dump(exclude=outcome))
        elif isinstance(fact, RunPrepared):
            found.append((fact.lane, fact.facts, fact.parameters, fact.trainable, fact.environment))
    return found


@pytest.mark.parametrize("folder", [True, False], ids=["checkpoints", "no folder"])
@pytest.mark.parametrize("step", [1, 6, 7, 15])
def test_a_run_is_tried_again_from_its_last_whole_epoch_and_ends_as_if_nothing_had_happened(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, folder: bool
) -> None:
    config = configure(epochs=3, dropout=0.2, augmentation="flip")  # 6 batches an epoch
    undisturbed = told(config)
    exhausting = Exhausting(monkeypatch, ModelLearner, step)
    saving = {"checkpoints": Checkpoints(tmp_path / "saved", seconds=0)} if folder else {}
    facts = told(config, **saving)
    assert exhausting.raised == 1 and exhausting.done == 18 + (step - 1) % 6 + 1, "no whole epoch is trained again"
    assert plain(facts) == plain(undisturbed) and [fact.kind for fact in facts].count("prepared") == 1
    assert len([fact for fact in facts if isinstance(fact, CheckpointSaved)]) == (2 if folder else 0)


def test_a_run_that_is_resumed_is_tried_again_from_the_checkpoint(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = configure(epochs=3)
    undisturbed = told(config, checkpoints=Checkpoints(tmp_path / "saved", seconds=0))
    first = next(fact.checkpoint for fact in undisturbed if isinstance(fact, CheckpointSaved))
    exhausting = Exhausting(monkeypatch, ModelLearner, 3)
    facts = told(config, checkpoints=Checkpoints(resume=[first]))
    assert exhausting.done == 15 and plain(facts) == [one for one in plain(undisturbed) if not isinstance(one, tuple) or one[1] != 1]


def test_everything_on_the_device_is_dropped_and_the_second_try_keeps_nothing_there(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ON_DEVICE.keep("of another run", CPU, torch.empty(3 * MB, dtype=torch.uint8), 3 * MB)
    exhausting = Exhausting(monkeypatch, ModelLearner, 8)
    facts = told(configure(epochs=2))
    own = 60 * 3 * 16 * 16
    assert exhausting.kept == [3 * MB + own] * 8 + [0] * 6 and isinstance(facts[-1], Finished)
    assert ON_DEVICE.make_room(1, CPU), "the next run may keep something there again"


def test_only_a_second_failure_is_reported_with_what_was_held_and_the_last_epoch_is_saved(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exhausting = Exhausting(monkeypatch, ModelLearner, 8, 9)
    card.others = 30 * MB
    facts = told(configure(epochs=3), checkpoints=Checkpoints(tmp_path / "saved", seconds=3600))
    assert exhausting.raised == 2 and [fact.kind for fact in facts] == ["prepared", "measured", "saved", "failed"]
    saved, failed = facts[-2:]
    assert saved.checkpoint.step == failed.step == 1
    assert failed.reason == "out_of_memory" and failed.device_bytes == card.total and not failed.crowded, "a gibibyte is the context"
    assert failed.detail == (
        "2.00 GiB could not be allocated on the GPU; of 100 MB this process held 0 B (the run's tensors 0 B, examples and outputs kept "
        "for later runs 0 B), other processes 0 B; 70 MB was free (at the second try, after 46.1 kB kept on the GPU had been dropped)"
    )


def test_a_crowded_device_is_named_as_such(configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    card.total, card.others = 24_000 * MB, 12_000 * MB
    Exhausting(monkeypatch, ModelLearner, 1, 2)
    failed = told(configure())[-1]
    assert isinstance(failed, Failed) and failed.crowded and "other processes 10.9 GB" in failed.detail


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")]
)
def test_the_host_s_memory_is_tried_once(configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    tries = []

    def exhausted(*_: Any) -> Any:
        tries.append(1)
        raise error

    monkeypatch.setattr(ModelLearner, "step", exhausted)
    failed = told(configure())[-1]
    assert isinstance(failed, Failed) and failed.reason == "out_of_memory" and failed.device_bytes is None and len(tries) == 1


def test_without_a_device_of_its_own_memory_a_run_is_tried_once(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    exhausting = Exhausting(monkeypatch, ModelLearner, 2)
    facts = told(configure())
    assert exhausting.done == 2 and facts[-1].reason == "out_of_memory" and facts[-1].device_bytes is None


def test_any_other_error_is_raised_at_once(configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(ModelLearner, "step", broken)
    card.total = 24_000 * MB
    with pytest.raises(RuntimeError, match="find an engine"):
        told(configure())
    assert not ON_DEVICE.make_room(card.total, CPU) and ON_DEVICE.make_room(1, CPU)


@pytest.fixture
def members(configure: Configure, tmp_path: Path) -> Callable[[], list[Member]]:
    """Three runs of the head alone, of 2, 4 and 4 epochs."""
    file = tmp_path / "weights.pt"
    torch.save(build(configure(seed=5), 3).network.state_dict(), file)
    model = ImageModel(name="small_cnn", weights=str(file))
    base = configure(model=model, frozen_layers=4)
    changes: list[dict[str, Any]] = [
        {"epochs": 2, "seed": 1, "dropout": 0.3}, {"epochs": 4, "seed": 2, "optimizer": "adam"}, {"epochs": 4, "seed": 3, "lr": 1e-2}
    ]  # fmt: skip

    def make() -> list[Member]:
        return [Member(config=base.model_copy(update=change)) for change in changes]

    return make


def heads(members: list[Member], cache: Cache, *, end_at: int | None = None) -> list[Any]:
    """What the runs report. Run 2 is ended from outside after its epoch `end_at`."""
    training = TrainingLoop(members, HeadEnsemble.build, device=CPU, cache=cache)
    found = []
    with closing(training.events()) as events:
        for fact in events:
            if fact.kind == "advanced":
                continue
            found.append(fact)
            if isinstance(fact, EpochMetrics) and (fact.lane, fact.step) == (2, end_at):
                training.end(2)
    return found


@pytest.mark.parametrize("end_at", [None, 1])
@pytest.mark.parametrize("step", [1, 9, 16, 20])
def test_heads_trained_together_are_tried_again_too(
    members: Callable[[], list[Member]], card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, end_at: int | None
) -> None:
    cache = Cache(tmp_path / "cache", 10**9)
    undisturbed = heads(members(), cache, end_at=end_at)
    exhausting = Exhausting(monkeypatch, HeadEnsemble, step)
    facts = heads(members(), cache, end_at=end_at)
    assert exhausting.raised == 1 and exhausting.done == 24 + (step - 1) % 6 + 1
    assert plain([fact for fact in facts if not isinstance(fact, RunPrepared)]) == plain(
        [fact for fact in undisturbed if not isinstance(fact, RunPrepared)]
    )
    ended = [fact.lane for fact in facts if isinstance(fact, Finished)]
    assert ended == ([0, 1, 2] if end_at is None else [0, 1])


def test_memory_that_runs_out_when_a_shorter_run_is_scored_loses_no_result(
    members: Callable[[], list[Member]], card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache, raised = Cache(tmp_path / "cache", 10**9), list[int]()
    undisturbed = heads(members(), cache)

    def exhausted(*_: Any) -> Any:
        if not raised:
            raised.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {}
        yield

    monkeypatch.setattr(loop, "score", exhausted)
    monkeypatch.setattr(loop, "require_test_examples", lambda run: None)
    scored = members()
    scored[0] = Member(config=scored[0].config, score_test=True)
    facts = heads(scored, cache)
    assert raised == [1]
    assert plain([fact for fact in facts if not isinstance(fact, RunPrepared)]) == plain(
        [fact for fact in undisturbed if not isinstance(fact, RunPrepared)]
    )


def test_outputs_that_no_longer_lie_on_the_device_are_reported_once_more(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, cache = configure(epochs=3, frozen_layers=3), Cache(tmp_path / "cache", 10**9)
    undisturbed = told(config, cache=cache, depths=(3, 3))
    Exhausting(monkeypatch, ModelLearner, 8)
    facts = told(config, cache=cache, depths=(3, 3))
    places = [fact.reuse.place for fact in facts if isinstance(fact, RunPrepared) and fact.reuse is not None]
    assert places == ["device", "disk"] and [fact.kind for fact in facts].index("measured") == 1
    assert [one for one in plain(facts) if not isinstance(one, tuple) or isinstance(one[1], int)] == [
        one for one in plain(undisturbed) if not isinstance(one, tuple) or isinstance(one[1], int)
    ]


def test_what_may_be_kept_follows_the_memory_that_is_left_and_the_share_of_the_device(card: Card) -> None:
    cache = memory.DeviceCache[str]()
    assert cache.fits(33 * MB, CPU) and not cache.fits(34 * MB, CPU), "a third of 100 MB"
    card.others = 40 * MB
    assert cache.fits(20 * MB, CPU) and not cache.fits(21 * MB, CPU)
    cache.keep("first", CPU, "held", 10 * MB)
    assert cache.fits(20 * MB, CPU) and not cache.fits(21 * MB, CPU), "what it holds itself counts as free"
    memory.set_share(0.25)
    try:
        assert cache.fits(8 * MB, CPU) and not cache.fits(9 * MB, CPU), "a third of 25 MB"
    finally:
        memory.set_share(1.0)
    with memory.without_caches():
        assert not cache.fits(0, CPU)
    assert not memory.DeviceCache[str]().fits(34 * MB, CPU)


def test_entries_of_earlier_runs_are_evicted_and_those_in_use_are_not(card: Card) -> None:
    cache, elsewhere = memory.DeviceCache[str](), torch.device("meta")
    for name, device in (("a", CPU), ("b", CPU), ("elsewhere", elsewhere)):
        cache.keep(name, device, name, 10 * MB)
    memory.start_run(CPU)
    assert cache.find("a", CPU) == "a", "used by this run from now on"
    assert cache.make_room(12 * MB, CPU)
    assert cache.find("b", CPU) is None and cache.find("a", CPU) == "a" and cache.find("elsewhere", elsewhere) == "elsewhere"
    assert not cache.make_room(30 * MB, CPU) and cache.find("a", CPU) == "a", "without an effect"
    memory.start_run(CPU)
    assert cache.make_room(30 * MB, CPU) and cache.find("a", CPU) is None


@pytest.fixture
def _whole_device() -> Iterator[None]:
    yield
    memory.set_share(1.0)


@pytest.mark.usefixtures("_whole_device")
def test_a_smaller_share_of_the_device_evicts_what_exceeds_it(card: Card) -> None:
    cache = memory.DeviceCache[str]()
    for name in "ab":
        cache.keep(name, CPU, name, 10 * MB)
    memory.set_share(0.8)
    assert cache.held_bytes(CPU) == 20 * MB, "80 of 100 MB, of which a third is for caches"
    memory.set_share(0.5)
    assert cache.find("a", CPU) is None and cache.find("b", CPU) == "b"
    memory.set_share(1.0)
    assert cache.make_room(20 * MB, CPU)


@pytest.mark.usefixtures("_whole_device")
def test_an_order_sets_the_share_of_the_device_until_another_one_does(card: Card) -> None:
    config = ImageClassificationConfig(data=ImageData(path="/no/such/folder"), model=ImageModel(name="small_cnn"))
    shares = list[float]()
    host = Host(CPU, Cache.none(), None, Unheard())  # type: ignore[arg-type]
    for share in (0.5, None, 0.25):
        run = Run(config=config, device_share=share)
        host.perform(run if share != 0.25 else BatchedRuns(runs=(run.model_copy(update={"device_share": None}),), device_share=share))
        shares.append(memory._limits.share)
    assert shares == [0.5, 0.5, 0.25]


class Unheard:
    """Takes messages."""

    def hold(self, line: Any) -> None: ...

    def send(self, *lines: Any) -> None: ...


def test_examples_on_the_host_are_not_evicted_for_the_device(configure: Configure, card: Card) -> None:
    card.others = card.total
    told(configure(epochs=1))
    assert len(examples._kept) == 1 and not examples._on_device.total_bytes
    card.others = 0
    told(configure(epochs=1, image_size=8))
    assert len(examples._kept) == 1 and examples._on_device.total_bytes == 60 * 3 * 8 * 8


def test_the_peak_leaves_out_what_other_runs_keep_on_the_device(card: Card) -> None:
    cache = memory.DeviceCache[str]()
    cache.keep("of another run", CPU, "", 10 * MB)
    memory.start_run(CPU)
    cache.keep("its own", CPU, "", 5 * MB)
    card.peaks = (40 * MB, 50 * MB)
    assert memory.peak(CPU) == 30 * MB and memory.needed(CPU) == 40 * MB + memory.CONTEXT_BYTES
    assert cache.find("of another run", CPU) is not None
    assert memory.peak(CPU) == 40 * MB, "now it is its own, too"


def test_a_run_reports_what_the_device_needs_and_without_one_nothing(
    configure: Configure, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(configure(epochs=1))[-1].device_memory == memory.CONTEXT_BYTES
    monkeypatch.undo()
    assert told(configure(epochs=1))[-1].device_memory is None


def test_a_trainer_without_an_order_drops_what_it_keeps_once(card: Card, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "trainer.host")
    ON_DEVICE.keep("of the last run", CPU, torch.empty(3), 12)
    orders, idle = Orders.__new__(Orders), list[str]()
    orders._queue = queue.SimpleQueue()

    def on_idle() -> None:
        release_when_idle(CPU)
        idle.append("idle")
        orders._queue.put(error)

    error = UnreadableOrder("no order")
    assert orders.next_task(0.01, on_idle) is error and idle == ["idle"]
    assert ON_DEVICE.find("of the last run", CPU) is None and card.emptied == 1
    assert caplog.messages == ["idle: 12 B kept on the device are dropped"]
    release_when_idle(CPU)
    assert card.emptied == 2 and len(caplog.messages) == 1, "an idle trainer that keeps nothing logs nothing"
