"""The host's share of a step and of an epoch on a device of its own: no copy that waits, states held on the device. Shown on the CPU."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainer.dispatched import Counted
from trainer import memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints, HeldState, copied, tensors_in
from trainer.learners import Member, ModelLearner
from trainer.loop import DivergenceCheck, train
from trainer.preparation import Expected, PreparedRun, inference_batch, placed, prepare, taken
from trainer.protocol import BatchProgress, CheckpointSaved, Failed, Finished
from trainer.stopwatch import DeviceQueue, Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build
from trainer.transfers import HostCopies

Configure = Callable[..., ImageClassificationConfig]
CPU, META = torch.device("cpu"), torch.device("meta")
GB = 2**30
WAITING = ("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::equal")


class Card:
    """Memory of a device: as much is left as is asked for."""

    def __init__(self, left: int = 100 * GB) -> None:
        self.left = left

    def usage(self) -> memory.Usage:
        return memory.Usage(self.left, 2 * self.left, 0, 0)

    def start_peak(self) -> None: ...

    def peak(self) -> tuple[int, int]:
        return 0, 0

    def empty_cache(self) -> None: ...


class Prepared:
    """A run, its learner and inputs, and the batches of its first epoch."""

    def __init__(self, config: ImageClassificationConfig, device: torch.device = CPU) -> None:
        self.run: PreparedRun = prepare(config, device, Expected(), Cache.none())
        built = ModelLearner.build(self.run, [Member(config=config)], Cache.none(), Stopwatch())
        self.learner, self.inputs = built[0], built[1]
        self.order = self.run.batches_of(1)
        self.learner.begin(1, torch.full((len(self.order), 1), config.lr, dtype=torch.float64))

    def step(self, batch: int) -> None:
        rows = self.order[batch]
        self.learner.step(batch, self.inputs.batch(rows, 0), taken(self.run.targets, rows))


def flat(state: Any) -> list[Tensor]:
    return tensors_in(state)


def test_a_held_state_is_a_copy_in_memory_that_is_allocated_once() -> None:
    first: dict[str, Any] = {"weight": torch.arange(6.0).view(2, 3).t(), "counts": [torch.tensor(3), torch.tensor(4)]}
    first |= {"betas": (0.9, 0.99), "name": "adam"}
    held = HeldState()
    held.hold(first)
    kept, places = held.on_host(), [tensor.data_ptr() for tensor in flat(held.state)]
    first["weight"].zero_()
    assert torch.equal(kept["weight"], torch.arange(6.0).view(2, 3).t()) and torch.equal(held.on_host()["weight"], kept["weight"])
    assert (kept["betas"], kept["name"], [int(count) for count in kept["counts"]]) == ((0.9, 0.99), "adam", [3, 4])
    held.hold(first)
    assert [tensor.data_ptr() for tensor in flat(held.state)] == places and not held.on_host()["weight"].any()
    held.hold({"weight": torch.ones(5)})
    assert torch.equal(held.on_host()["weight"], torch.ones(5))


def test_holding_a_state_takes_one_copy_for_each_number_format() -> None:
    state = {str(number): torch.full((3,), float(number)) for number in range(50)} | {f"n{n}": torch.tensor(n) for n in range(50)}
    held = HeldState()
    held.hold(state)
    with Counted() as counted:
        held.hold(state)
    assert counted.calls == {"aten::_foreach_copy_": 2}


@pytest.mark.parametrize("frozen", [0, 2])
def test_a_state_that_is_held_on_the_device_is_the_one_that_is_copied_to_the_host(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, frozen: int
) -> None:
    prepared = Prepared(configure(frozen_layers=frozen))
    prepared.step(0)
    expected = prepared.learner.snapshot()(0)
    monkeypatch.setattr(memory, "of", lambda device: Card())
    function = prepared.learner.snapshot()
    prepared.step(1)
    found = function(0)
    assert list(found.model) == list(expected.model) and found.optimizer.keys() == expected.optimizer.keys()
    pairs = list(zip(flat(tuple(found)), flat(tuple(expected)), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not all(
        torch.equal(ours, theirs) for ours, theirs in zip(flat(tuple(found)), flat(tuple(prepared.learner.snapshot()(0))), strict=True)
    )


def test_a_device_without_room_for_the_state_has_it_on_the_host(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared(configure())
    monkeypatch.setattr(memory, "of", lambda device: Card(left=1000))
    prepared.step(0)
    prepared.learner.snapshot()
    assert prepared.learner._held is None


def test_the_state_of_an_epoch_is_copied_to_the_host_only_for_a_checkpoint(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "of", lambda device: Card())
    prepared = Prepared(configure())
    prepared.step(0)
    prepared.learner.snapshot()
    prepared.step(1)
    with Counted() as counted:
        function = prepared.learner.snapshot()
    assert counted.calls["aten::_to_copy"] == counted.calls["aten::clone"] == 0 and counted.calls["aten::_foreach_copy_"] <= 2
    with Counted() as counted:
        function(0)
    assert counted.calls["aten::_to_copy"] + counted.calls["aten::clone"] > 10, "so that the count above means something"


def test_checkpoints_and_results_do_not_depend_on_where_the_state_is_held(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = list[tuple[list[str], Mapping[str, float]]]()
    for name in ("host", "device"):
        if name == "device":
            monkeypatch.setattr(memory, "of", lambda device: Card())
        checkpoints = Checkpoints(tmp_path / name, seconds=0)
        events = list(train(configure(epochs=3, dropout=0.2), device=CPU, checkpoints=checkpoints))
        files = [one.checkpoint.path for one in events if isinstance(one, CheckpointSaved)]
        states = [torch.load(file, weights_only=True) for file in files]
        digests = [hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in flat(state))).hexdigest() for state in states]
        (finished,) = [one for one in events if isinstance(one, Finished)]
        found.append((digests, finished.metrics))
    assert found[0] == found[1] and len(found[0][0]) == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("augmentation", ["none", "flip", "crop"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_no_operation_of_a_step_reads_a_number_from_the_device(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, optimizer: str, augmentation: str, precision: str
) -> None:
    monkeypatch.setattr("trainer.devices.matrix_formats", lambda device: frozenset({"float16", "bfloat16"}))
    prepared = Prepared(configure(optimizer=optimizer, augmentation=augmentation, dropout=0.2, precision=precision))
    prepared.step(0)
    with Counted() as counted:
        prepared.step(1)
    assert not {name: count for name, count in counted.calls.items() if name in WAITING}
    assert sum(counted.calls.values()) > 30


def test_the_end_of_a_round_reads_once_whether_all_parameters_are_finite(configure: Configure) -> None:
    prepared = Prepared(configure())
    prepared.step(0)
    with Counted() as counted:
        assert prepared.learner.finite() == [True]
    assert counted.calls["aten::_foreach_norm"] == 1 and counted.calls["aten::isfinite"] <= 1
    assert sum(counted.calls[name] for name in WAITING) <= 2, "two numbers of one tensor"


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_one_value_that_is_not_finite_is_found_and_a_large_one_is_finite(configure: Configure, broken: float, place: int) -> None:
    prepared = Prepared(configure())
    parameter = list(prepared.run.model.trainable_parameters())[place]
    with torch.no_grad():
        parameter.view(-1)[place] = 3e38
        assert prepared.learner.finite() == [True]
        parameter.view(-1)[place] = broken
    assert prepared.learner.finite() == [False]


def test_weights_are_channels_last_on_accelerators_only(configure: Configure) -> None:
    model = build(configure(model=ImageModel(name="squeezenet1_1"), image_size=32), 3)
    before = {name: tensor.stride() for name, tensor in model.network.named_parameters()}
    on_cpu = {name: tensor.stride() for name, tensor in placed(model, CPU).network.named_parameters()}
    assert on_cpu == before
    moved = placed(model, META)
    kernels = [weight for weight in moved.parameters() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
    assert kernels and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


@pytest.mark.parametrize(("left", "expected"), [(100 * GB, 256), (64 * 2**20, 128), (10 * 2**20, 32)])
def test_the_batch_without_gradients_follows_the_memory_of_the_device(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, left: int, expected: int
) -> None:
    prepared = Prepared(configure())
    assert inference_batch(prepared.run) is None and prepared.learner.smallest_batch == 32, "on a CPU as it was"
    monkeypatch.setattr(memory, "of", lambda device: Card(left))
    assert inference_batch(prepared.run) == expected
    assert Prepared(configure()).learner.smallest_batch == expected


class Queue:
    """An asynchronous device: copies happen when an event behind them is waited for."""

    def __init__(self) -> None:
        self.events = list["Queued"]()

    def event(self) -> "Queued":
        self.events.append(Queued())
        return self.events[-1]


class Queued:
    recorded = waited = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded
        self.waited = True

    def wait(self) -> None:
        raise AssertionError("copies to the host wait in the host")


class Arrival:
    """An event that a device reaches when it is told to."""

    reached = recorded = False

    def record(self) -> None:
        self.recorded = True

    def query(self) -> bool:
        assert self.recorded
        return self.reached

    def synchronize(self) -> None:
        raise AssertionError("nothing may wait for the device")

    def elapsed_time(self, end: object) -> float:
        raise AssertionError


NAN = float("nan")


def test_divergence_is_found_when_the_answer_arrives_and_is_not_waited_for() -> None:
    arrivals = list[Arrival]()

    def event() -> Arrival:
        arrivals.append(Arrival())
        return arrivals[-1]

    check = DivergenceCheck(DeviceQueue(lambda: None, event), pinned=False)
    assert not check.found()
    check.look(torch.tensor([[1.0, NAN], [2.0, 3.0]]))
    assert not check.found()
    check.look(torch.full((4, 2), NAN))
    assert len(arrivals) == 1, "one answer is on its way at a time"
    arrivals[0].reached = True
    assert not check.found(), "the first member is sound"
    check.look(torch.tensor([[1.0, NAN], [NAN, 3.0]]))
    assert not check.found()
    arrivals[1].reached = True
    assert check.found() and check.found()


def test_on_a_processor_divergence_is_found_at_once() -> None:
    check = DivergenceCheck(None)
    check.look(torch.tensor([[1.0, NAN]]))
    assert not check.found()
    check.look(torch.tensor([[1.0, NAN], [NAN, NAN]]))
    assert check.found()


@pytest.mark.parametrize("behind", [0, 3, 1000])
def test_a_diverged_run_ends_alike_however_late_the_answer_arrives(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """Of 27 steps the loss of the second is not finite; steps 16 and on are asked about."""
    config = configure(optimizer="sgd", lr=100, weight_decay=10, batch_size=2, epochs=1)
    (expected,) = [event for event in train(config, device=CPU) if isinstance(event, Failed)]

    class Late(Arrival):
        left = behind

        def query(self) -> bool:
            self.left -= 1
            return self.left < 0

    queue = DeviceQueue(lambda: None, Late)
    monkeypatch.setattr("trainer.loop.queue_of", lambda device: queue)
    monkeypatch.setattr("trainer.loop.DivergenceCheck", partial(DivergenceCheck, pinned=False))
    events = list(train(config, device=CPU, stopwatch=Stopwatch()))
    assert events[-1] == expected and expected.reason == "diverged"
    steps = max(event.batch for event in events if isinstance(event, BatchProgress))
    assert steps == min(15 + behind, 24), "as many as the answer is late, up to the end of the round"


def test_outputs_are_copied_to_the_host_one_batch_behind() -> None:
    rows = torch.arange(70.0).view(10, 7)
    into, queue = torch.full((10, 7), -1.0), Queue()
    copies = HostCopies(into, queue.event, pinned=False)
    for batch in range(0, 10, 4):
        copies.write(batch, rows[batch : batch + 4])
        assert [event.waited for event in queue.events] == [*[True] * (len(queue.events) - 1), False], "never the batch just computed"
    assert (into[8:] == -1).all()
    copies.finish()
    assert torch.equal(into, rows)


def test_large_outputs_go_through_buffers_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.transfers.PINNED_BYTES", 60)
    rows = torch.arange(70.0).view(10, 7)
    into, queue = torch.zeros((10, 7)), Queue()
    copies = HostCopies(into, queue.event, pinned=False)
    copies.write(0, rows)
    copies.finish()
    assert torch.equal(into, rows) and len(queue.events) == 5
    assert copied({"rows": into})["rows"].equal(rows)


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", ["none", "flip", "crop"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_operation_of_a_step_waits_for_the_gpu(configure: Configure, optimizer: str, augmentation: str) -> None:
    prepared = Prepared(configure(optimizer=optimizer, augmentation=augmentation, dropout=0.2), torch.device("cuda:0"))
    prepared.step(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        prepared.step(1)
        prepared.learner.snapshot()
        prepared.step(2)
        prepared.learner.snapshot()
    finally:
        torch.cuda.set_sync_debug_mode("default")
