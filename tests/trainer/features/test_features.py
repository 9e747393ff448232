"""Runs that read stored outputs end as those that compute them, and outputs are computed once."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainer.features.running import CPU, MUCH, Configure, Paint, Run, drained, entries, inputs_of, run, task_of
from trainer.cache import Cache, Key
from trainer.contract import DataConfig, ModelConfig, TrainConfig
from trainer.data import reading, resident
from trainer.data.augmentation import augment
from trainer.features import Direct, stored_outputs
from trainer.features.chain import Chain
from trainer.features.rates import Rates, rates
from trainer.features.source import Part, Source
from trainer.features.store import MemoryStore
from trainer.stopwatch import Stopwatch
from trainer.train import train

TOLERANCE = 1e-4  # of float32: a matrix product rounds by the size of its batch, and training carries it on


def same(one: Run, other: Run) -> bool:
    return [pytest.approx(metrics, rel=TOLERANCE, abs=TOLERANCE) for metrics in one.metrics] == other.metrics


@pytest.mark.parametrize("frozen", [1, 2, 4])
def test_a_run_that_reads_stored_outputs_ends_as_one_that_computes_them(configure: Configure, cache: Cache, frozen: int) -> None:
    """`small_cnn` has BatchNorm in each stage: the statistics of frozen ones stay, those of the others are trained."""
    config = configure(frozen_layers=frozen, epochs=3)
    computed, building, reading = run(config, cache, share=False), run(config, cache), run(config, cache)
    assert (computed.reuse.depth, building.reuse.depth, reading.reuse.depth) == (0, frozen, frozen)
    assert same(building, computed) and reading.metrics == building.metrics
    assert reading.reuse.place == "disk" and reading.pace.saved_seconds > building.pace.saved_seconds


def test_in_bfloat16_a_stored_output_is_bfloat16_and_the_same_bit_for_bit(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=3, epochs=2, precision="bfloat16")
    assert run(config, cache).metrics == run(config, cache, share=False).metrics
    inputs = inputs_of(task_of(config), cache)
    drained(inputs.ready(None, None))
    assert inputs.batch(task_of(config).validation, None).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "frozen"), [("squeezenet1_1", 7), ("mobilenet_v2", 19)])
def test_pretrained_networks_give_the_same_with_and_without(
    shared_data: Path, configure: Configure, cache: Cache, name: str, frozen: int
) -> None:
    (file,) = (shared_data / "weights").glob(f"{name}*.safetensors")
    config = configure(model=ModelConfig(name=name, weights=str(file)), image_size=32, frozen_layers=frozen, lr=1e-4)
    reading = run(config, cache)
    assert reading.reuse.depth == frozen and same(reading, run(config, cache, share=False))
    assert run(config, cache).pace.saved_seconds > 0


def test_outputs_lie_as_the_network_wants_them(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=3))
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    rows = task.training[torch.tensor([5, 0, 7, 7])]
    found, wanted = inputs.batch(rows, 0), task.model.forward_prefix(task.normalise(task.images.take(rows)), 3)
    assert found.stride() == wanted.stride() and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted)


def test_test_images_are_never_computed(configure: Configure, paint: Paint, cache: Cache) -> None:
    config = configure(data=DataConfig(path=str(paint()), validation=0.2, test=0.3), frozen_layers=4)
    run(config, cache)
    counts = sorted((file.stat().st_size - 4096) // (64 * 4 * 4 * 4) for file in entries(cache))  # rows of [64, 4, 4] float32
    assert counts == [12, 30], "of 60 images, 18 are for the test"


def test_an_image_that_lies_in_several_files_is_stored_once(configure: Configure, paint: Paint, cache: Cache) -> None:
    folder = paint()
    for copy in range(3):
        (folder / "red" / f"copy{copy}.png").write_bytes((folder / "red" / "0.png").read_bytes())
    task = task_of(configure(data=DataConfig(path=str(folder)), frozen_layers=2))
    part = Part(task, torch.cat([task.training, task.validation]), 1, augmented=False)
    assert len(part.rows) == 60 < len(task.training) + len(task.validation) == 63
    assert torch.equal(part.rows[part.places(task.training)], task.training)


def test_a_plan_for_deeper_runs_stores_nothing_that_this_run_cannot_read(configure: Configure, cache: Cache) -> None:
    told = Run(train(configure(frozen_layers=2), device=CPU, cache=cache, demand={2: 1, 4: MUCH}))
    assert told.reuse.depth <= 2 and len(entries(cache)) <= 2


def test_a_shallower_output_that_is_there_is_read_by_a_deeper_run(configure: Configure, cache: Cache) -> None:
    run(configure(frozen_layers=2), cache)
    before = entries(cache)
    shared = Run(train(configure(frozen_layers=3, epochs=1), device=CPU, cache=cache, demand={2: MUCH, 3: 1}))
    assert shared.reuse.depth == 2 and entries(cache) == before


# Augmentation


def test_each_of_k_views_is_an_entry(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=3, augmentation="crop", augmentation_views=2, epochs=5)
    computed, building = run(config, cache, share=False), run(config, cache)
    assert len(entries(cache)) == 3, "two views of the training images, and the validation images"
    assert same(building, computed) and run(config, cache).metrics == building.metrics


def test_fresh_views_are_stored_for_other_trials_and_not_for_one_alone(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=3, augmentation="flip", epochs=3)
    assert same(run(config, cache), run(config, cache, share=False))
    assert len(entries(cache)) == 4, "a view an epoch"
    alone = inputs_of(task_of(configure(frozen_layers=3, augmentation="flip", epochs=3, image_size=8)), cache, demand=0)
    assert drained(alone.ready(0, None)) == 0 and len(entries(cache)) == 4


def test_training_images_may_be_computed_while_validation_images_are_read(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=3, augmentation="flip", epochs=3)
    room = Cache(cache.folder, 150_000)  # 60 images of 768 bytes, and 12 outputs of [48, 8, 8] float32, no more
    computed, mixed = run(config, room, share=False), run(config, room)
    assert len(entries(cache)) == 1 and mixed.reuse.depth == 3 and same(mixed, computed)


# The entry is someone else's, damaged, gone, or in the making


def script(config: TrainConfig, folder: Path) -> list[str]:
    """Trains in a process of its own and tells how many entries it built, and what it reused."""
    code = f"""
import logging, sys, torch
from pathlib import Path
from tests.trainer.features.running import MUCH, run
from trainer.cache import Cache
from trainer.contract import TrainConfig
built = []
class Count(logging.Handler):
    def emit(self, record):
        built.append(record) if record.getMessage().startswith("building") else None
logging.getLogger("trainer.features.source").addHandler(Count())
logging.getLogger("trainer.features.source").setLevel(logging.INFO)
torch.set_num_threads(1)
sys.stdin.readline()
told = run(TrainConfig.model_validate_json({config.model_dump_json()!r}), Cache(Path({str(folder)!r}), 10**9))
print(len(built), told.reuse.depth, told.metrics[-1]["loss"])
"""
    return [sys.executable, "-c", code]


def test_processes_share_an_entry_and_two_at_once_build_it_once(configure: Configure, cache: Cache) -> None:
    assert cache.folder is not None
    config = configure(frozen_layers=4, epochs=1)
    command = script(config, cache.folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    told = [process.communicate("go\n", timeout=100)[0].split() for process in both]
    third = run(config, Cache(cache.folder, 10**9))
    assert sum(int(built) for built, *_ in told) == 2, "the training images' and the validation images', by one of them"
    assert told[0][1:] == told[1][1:] == ["4", str(third.metrics[-1]["loss"])] and len(entries(cache)) == 2


def test_a_damaged_entry_is_computed_again(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    first = run(config, cache)
    for file in entries(cache):
        content = bytearray(file.read_bytes())
        content[-100] ^= 0xFF
        file.write_bytes(content)
    damaged = [file.read_bytes() for file in entries(cache)]
    assert run(config, Cache(cache.folder, 10**9)).metrics == first.metrics
    assert [file.read_bytes() for file in entries(cache)] != damaged and len(damaged) == 2


def test_an_entry_that_is_evicted_stays_readable_for_whoever_uses_it(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    before = inputs.batch(task.training, 0).clone()
    for file in entries(cache):
        file.unlink()
    assert drained(inputs.ready(0, None)) == 0 and torch.equal(inputs.batch(task.training, 0), before)


def test_who_waits_for_another_builder_gives_signs_and_takes_what_it_made(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    building, waiting = inputs_of(task, cache), inputs_of(task, Cache(cache.folder, 10**9))
    builder = building.ready(0, None)
    next(builder)
    waiter = waiting.ready(0, "a sign")
    assert [next(waiter) for _ in range(2)] == ["a sign"] * 2
    finish = threading.Thread(target=drained, args=(builder,))
    finish.start()
    drained(waiter)
    finish.join()
    assert len(entries(cache)) == 1 and torch.equal(waiting.batch(task.training, 0), building.batch(task.training, 0))


def test_what_a_builder_leaves_undone_the_one_who_waits_builds(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    builder, waiting = inputs_of(task, cache).ready(0, None), inputs_of(task, Cache(cache.folder, 10**9))
    next(builder)
    waiter = waiting.ready(0, None)
    next(waiter)
    builder.close()  # as when its run is cancelled
    assert entries(cache) == []
    drained(waiter)
    assert len(entries(cache)) == 1


def test_where_there_is_no_room_everything_is_computed(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    told = run(config, Cache(cache.folder, 5_000))
    assert told.reuse.depth == 0 and told.reuse.place == "none" and entries(cache) == []
    assert same(told, run(config, cache, share=False))


def test_room_that_another_takes_meanwhile_is_done_without(configure: Configure, cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    task = task_of(configure(frozen_layers=4))
    tight = Cache(cache.folder, 400_000)
    inputs = inputs_of(task, tight)
    other = inputs_of(task_of(configure(frozen_layers=1)), tight)  # 12 images of [16, 16, 16] float32: 197 kB
    holding = other.ready(None, None)
    next(holding)  # a draft is not evicted
    drained(inputs.ready(0, None))
    drained(inputs.ready(None, None))
    assert "there is no room" in caplog.text and len(entries(tight)) == 1, "the validation images' output still fits"
    wanted = task.model.forward_prefix(task.normalise(task.images.take(task.training)), 4)
    torch.testing.assert_close(inputs.batch(task.training, 0), wanted)
    holding.close()


# Images that are streamed


def test_streamed_images_are_decoded_for_building_alone(configure: Configure, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(frozen_layers=4)
    computed = run(config, cache, share=False)
    monkeypatch.setattr(resident, "HEADROOM", 2**60)  # no image fits the memory
    resident._kept.clear()
    room = Cache(cache.folder, 1)  # nor the cache, which has none for the outputs either
    assert same(run(config, room), computed)
    task = task_of(config)
    assert task.images.origin == "streamed"
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    monkeypatch.setattr(reading, "start", None)  # from now on nothing can be decoded
    inputs.expect(task.training.split(8), 0)
    assert len(inputs.batch(task.training, 0)) == 48
    resident._kept.clear()


# Without a folder


def test_without_a_folder_outputs_stay_in_the_memory_of_the_process(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = configure(frozen_layers=4, seed=11)  # random initial values of its own
    first, second = run(config, Cache.none()), run(config, Cache.none())
    assert first.reuse.place == second.reuse.place == "memory" and first.metrics == second.metrics
    assert caplog.text.count("building") == 2, "of training and validation images, by the first run"


def test_the_memory_of_a_process_keeps_what_was_used_last() -> None:
    store = MemoryStore()
    size = store.budget // 3 // 8
    keys = [Key("features", {"number": number}) for number in range(4)]
    for key in keys:
        draft = store.begin(key, (size,), torch.int64)
        assert draft is not None
        draft.tensor = torch.empty(1, dtype=torch.int64).expand(size)  # takes no memory, and counts as if
        draft.commit()
        store.find(keys[0])
    assert [store.holds(key) for key in keys][:2] == [True, False] and store.holds(keys[3])
    assert store.begin(keys[1], (store.budget,), torch.int64) is None


# Lanes


def test_lanes_read_what_lies_behind_the_head_s_beginning(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    inputs = stored_outputs(task, cache, {4: MUCH}, Stopwatch(), tail, lanes=8)
    drained(inputs.ready(0, None))
    drained(inputs.ready(None, None))
    for rows, view in ((task.training[:7], 0), (task.validation, None)):
        wanted = tail(task.model.forward_prefix(task.normalise(task.images.take(rows)), 4))
        torch.testing.assert_close(inputs.batch(rows, view), wanted)
    assert inputs.reuse.depth == 4 and inputs.reuse.lanes == 8 and max(file.stat().st_size for file in entries(cache)) < 4096 + 49 * 256


def test_lanes_alone_with_fresh_views_compute_each_batch_once_for_all(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4, augmentation="flip", epochs=2))
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    inputs = stored_outputs(task, cache, {4: 16.0}, Stopwatch(), tail, lanes=8)  # 8 lanes of 2 epochs: two passes
    assert drained(inputs.ready(1, None)) == 0
    rows = task.training[:5]
    pixels = augment(task.images.take(rows), task.images.keys[rows], 1, "flip")
    torch.testing.assert_close(inputs.batch(rows, 1), tail(task.model.forward_prefix(task.normalise(pixels), 4)))


def test_lanes_need_all_stages_frozen(configure: Configure, cache: Cache) -> None:
    with pytest.raises(ValueError, match="lanes need all 4 stages frozen, not 3"):
        stored_outputs(task_of(configure(frozen_layers=3)), cache, {}, Stopwatch(), nn.Flatten(1))


# Keys and measurements


def test_everything_that_the_numbers_follow_from_is_in_the_key(configure: Configure, paint: Paint) -> None:
    def digest(depth: int = 2, part: str = "training", view: int | None = None, **changes: Any) -> str:
        task = task_of(configure(**{"frozen_layers": 2, "augmentation": "flip", **changes}))
        return Part(task, getattr(task, part), 1, augmented=True).key(Chain(task), depth, view).digest

    other = DataConfig(path=str(paint(name="others", count=10)))
    keys = [
        digest(), digest(depth=1), digest(part="validation"), digest(view=0), digest(view=1), digest(view=0, augmentation="crop"),
        digest(seed=8), digest(image_size=24), digest(precision="bfloat16"), digest(data=other),
        digest(model=ModelConfig(name="small_cnn", mean=(0.5, 0.5, 0.5))), digest(model=ModelConfig(name="small_cnn", std=(0.5, 0.5, 0.5))),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    same = {"lr": 0.5, "batch_size": 3, "dropout": 0.1, "epochs": 9, "order_seed": 4, "frozen_layers": 4, "augmentation": "crop"}
    assert digest(**same) == keys[0], "unchanged images know no augmentation"


def test_weights_from_a_file_count_by_their_content(configure: Configure, shared_data: Path) -> None:
    (file,) = (shared_data / "weights").glob("squeezenet1_1*.safetensors")
    tasks = [
        task_of(configure(model=ModelConfig(name="squeezenet1_1", weights=weights), image_size=32, frozen_layers=3, seed=seed))
        for weights, seed in ((str(file), 1), (str(file), 2), (None, 1), (None, 2))
    ]
    keys = [Part(task, task.training, 1, augmented=False).key(Chain(task), 3, None).digest for task in tasks]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_measuring_leaves_the_model_as_it_was(configure: Configure) -> None:
    task = task_of(configure(frozen_layers=1, image_size=20))
    task.model.train()
    before = {name: tensor.clone() for name, tensor in task.model.network.state_dict().items()}
    found = rates(task, Chain(task), lambda rows: Direct(task).batch(rows, 0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.network.state_dict().items())
    assert [part.training for part in (*task.model.stages, task.model.head)] == [False, True, True, True, True]
    assert [form.shape for form in found.forms] == [(16, 20, 20), (32, 10, 10), (48, 5, 5), (64, 5, 5)]
    assert min(found.stage_seconds) > 0 < found.input_seconds


def test_an_output_that_is_slower_to_read_than_to_compute_is_computed(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    stated = rates(task, chain := Chain(task), lambda rows: Direct(task).batch(rows, 0))
    instant = Rates(0.0, (0.0,) * 4, stated.forms)  # as if computing took no time
    source = Source(Part(task, task.training, 1, augmented=False), chain, cache, 4, instant, Stopwatch())
    drained(source.ready(0, None))
    assert not source.reads and source.read(task.training, 0) is None


def test_what_was_saved_is_computing_less_reading_and_building(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    stated = rates(task, chain := Chain(task), lambda rows: Direct(task).batch(rows, 0))
    slow = Rates(0.5, (1.0, 1.0, 2.0, 3.0), stated.forms)
    source, clock = Source(Part(task, task.training, 1, augmented=False), chain, cache, 4, slow, watch := Stopwatch()), time.perf_counter
    drained(source.ready(0, None))
    built = watch.seconds["features"]
    assert built > 0 and source.saved_seconds == pytest.approx(-built, abs=0.01)
    started = clock()
    source.read(task.training[:10], 0)
    assert 10 * 7.5 - built - (clock() - started) - 0.01 <= source.saved_seconds <= 10 * 7.5 - built + 0.01


def test_a_chain_runs_no_stage_that_is_trained(configure: Configure) -> None:
    task = task_of(configure(frozen_layers=2))
    with pytest.raises(ValueError, match="the output behind 3 stages is not pure; 2 are frozen"):
        Chain(task).run(torch.zeros(1, 3, 16, 16), 0, 3)


@pytest.mark.gpu
def test_on_a_gpu_outputs_lie_on_the_device(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    computed, reading = (run(config, cache, device=torch.device("cuda:0"), share=share) for share in (False, True))
    assert reading.reuse.place == "device" and same(reading, computed)
