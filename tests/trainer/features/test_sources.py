"""What lanes read, what entries are known by, and what is measured."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainer.features.running import MUCH, Configure, Paint, drained, entries, task_of
from trainer.cache import Cache
from trainer.features import Direct, stored_outputs
from trainer.features.frozen_prefix import FrozenPrefix
from trainer.features.planner import Rates, rates
from trainer.features.source import Source, StoredExamples
from trainer.stopwatch import Stopwatch
from trainer.tasks.images.config import ImageData, ImageModel


def test_lanes_read_what_lies_behind_the_head_s_beginning(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    inputs = stored_outputs(task, cache, {4: MUCH}, Stopwatch(), tail, lanes=8)
    drained(inputs.ready(0, None))
    drained(inputs.ready(None, None))
    for rows, view in ((task.training[:7], 0), (task.validation, None)):
        wanted = tail(task.model.forward_prefix(task.examples.take(rows, None), 4))
        torch.testing.assert_close(inputs.batch(rows, view), wanted)
    assert inputs.reuse.depth == 4 and inputs.reuse.lanes == 8 and max(file.stat().st_size for file in entries(cache)) < 4096 + 49 * 256


def test_lanes_alone_with_fresh_views_compute_each_batch_once_for_all(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4, augmentation="flip", epochs=2))
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    inputs = stored_outputs(task, cache, {4: 16.0}, Stopwatch(), tail, lanes=8)  # 8 lanes of 2 epochs: two passes
    assert drained(inputs.ready(1, None)) == 0
    rows = task.training[:5]
    torch.testing.assert_close(inputs.batch(rows, 1), tail(task.model.forward_prefix(task.examples.take(rows, 1), 4)))


def test_lanes_need_all_stages_frozen(configure: Configure, cache: Cache) -> None:
    with pytest.raises(ValueError, match="heads trained together need all 4 stages frozen, not 3"):
        stored_outputs(task_of(configure(frozen_layers=3)), cache, {}, Stopwatch(), nn.Flatten(1))


def test_everything_that_the_numbers_follow_from_is_in_the_key(configure: Configure, paint: Paint) -> None:
    def digest(depth: int = 2, part: str = "training", view: int | None = None, **changes: Any) -> str:
        task = task_of(configure(**{"frozen_layers": 2, "augmentation": "flip", **changes}))
        return StoredExamples(task, getattr(task, part), 1, augmented=True).key(FrozenPrefix(task), depth, view).digest

    other = ImageData(path=str(paint(name="others", count=10)))
    keys = [
        digest(), digest(depth=1), digest(part="validation"), digest(view=0), digest(view=1), digest(view=0, augmentation="crop"),
        digest(seed=8), digest(image_size=24), digest(precision="bfloat16"), digest(data=other),
        digest(model=ImageModel(name="small_cnn", mean=(0.5, 0.5, 0.5))), digest(model=ImageModel(name="small_cnn", std=(0.5, 0.5, 0.5))),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    same = digest(lr=0.5, batch_size=3, dropout=0.1, epochs=9, order_seed=4, frozen_layers=4, augmentation="crop")
    assert same == keys[0], "unchanged images know no augmentation"


def test_weights_from_a_file_count_by_their_content(configure: Configure, shared_data: Path) -> None:
    (file,) = (shared_data / "weights").glob("squeezenet1_1*.safetensors")
    tasks = [
        task_of(configure(model=ImageModel(name="squeezenet1_1", weights=weights), image_size=32, frozen_layers=3, seed=seed))
        for weights, seed in ((str(file), 1), (str(file), 2), (None, 1), (None, 2))
    ]
    keys = [StoredExamples(task, task.training, 1, augmented=False).key(FrozenPrefix(task), 3, None).digest for task in tasks]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_measuring_leaves_the_model_as_it_was(configure: Configure) -> None:
    task = task_of(configure(frozen_layers=1, image_size=20))
    task.model.train()
    before = {name: tensor.clone() for name, tensor in task.model.network.state_dict().items()}
    found = rates(task, FrozenPrefix(task), lambda rows: Direct(task).batch(rows, 0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.network.state_dict().items())
    assert [part.training for part in (*task.model.stages, task.model.head)] == [False, True, True, True, True]
    assert [form.shape for form in found.forms] == [(16, 20, 20), (32, 10, 10), (48, 5, 5), (64, 5, 5)]
    assert min(found.stage_seconds) > 0 < found.input_seconds


def test_an_output_that_is_slower_to_read_than_to_compute_is_computed(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    stated = rates(task, chain := FrozenPrefix(task), lambda rows: Direct(task).batch(rows, 0))
    instant = Rates(0.0, (0.0,) * 4, stated.forms)  # as if computing took no time
    source = Source(StoredExamples(task, task.training, 1, augmented=False), chain, cache, 4, instant, Stopwatch())
    drained(source.ready(0, None))
    assert not source.reads and source.read(task.training, 0) is None


def test_what_was_saved_is_computing_less_reading_and_building(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    stated = rates(task, chain := FrozenPrefix(task), lambda rows: Direct(task).batch(rows, 0))
    slow = Rates(0.5, (1.0, 1.0, 2.0, 3.0), stated.forms)
    source, clock = (
        Source(StoredExamples(task, task.training, 1, augmented=False), chain, cache, 4, slow, watch := Stopwatch()),
        time.perf_counter,
    )
    drained(source.ready(0, None))
    built = watch.seconds["features"]
    assert built > 0 and source.saved_seconds == pytest.approx(-built, abs=0.01)
    started = clock()
    source.read(task.training[:10], 0)
    assert 10 * 7.5 - built - (clock() - started) - 0.01 <= source.saved_seconds <= 10 * 7.5 - built + 0.01


def test_a_chain_runs_no_stage_that_is_trained(configure: Configure) -> None:
    task = task_of(configure(frozen_layers=2))
    with pytest.raises(ValueError, match="the output of 3 stages cannot be stored; only 2 are frozen"):
        FrozenPrefix(task).run(torch.zeros(1, 3, 16, 16), 0, 3)
