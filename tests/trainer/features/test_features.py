"""Runs that read stored outputs end as those that compute them."""

from pathlib import Path

import pytest
import torch

from tests.trainer.features.running import CPU, MUCH, Configure, Paint, Run, drained, entries, inputs_of, run, same, task_of
from trainer.cache import Cache
from trainer.data.images import examples, reading
from trainer.features.source import StoredExamples
from trainer.loop import train
from trainer.sequences import dense
from trainer.tasks.images.config import ImageData, ImageModel


@pytest.mark.parametrize("frozen", [1, 2, 4])
def test_a_run_that_reads_stored_outputs_ends_as_one_that_computes_them(configure: Configure, cache: Cache, frozen: int) -> None:
    """`small_cnn` has BatchNorm in each stage: the statistics of frozen ones stay, those of the others are trained."""
    config = configure(frozen_layers=frozen, epochs=3)
    computed, building, reading = run(config, cache, share=False), run(config, cache), run(config, cache)
    assert (computed.reuse.depth, building.reuse.depth, reading.reuse.depth) == (0, frozen, frozen)
    assert same(building, computed) and reading.metrics == building.metrics
    assert reading.reuse.place == "disk"


@pytest.mark.parametrize("depths", [(3, 3), (2, 3), (0, 2), (0, 0)])
def test_a_run_that_is_told_what_another_read_equals_it_to_the_last_bit(
    configure: Configure, tmp_path: Path, depths: tuple[int, int]
) -> None:
    """On another machine, where the plan would have been another: there everything was stored, here nothing."""
    config = configure(frozen_layers=3, epochs=2)
    there = run(config, Cache(tmp_path / "there", 10**9), depths=depths)
    here = run(config, Cache(tmp_path / "here", 10**9), demand=0, depths=depths)
    assert (there.reuse.depth, there.reuse.validation_depth) == (here.reuse.depth, here.reuse.validation_depth) == depths
    assert here.metrics == there.metrics


def test_in_bfloat16_a_stored_output_is_bfloat16_and_the_same_bit_for_bit(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=3, epochs=2, precision="bfloat16")
    assert run(config, cache).metrics == run(config, cache, share=False).metrics
    inputs = inputs_of(task_of(config), cache)
    drained(inputs.ready(None, None))
    assert dense(inputs.batch(task_of(config).validation, None)).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "frozen"), [("squeezenet1_1", 7), ("mobilenet_v2", 19)])
def test_pretrained_networks_give_the_same_with_and_without(
    shared_data: Path, configure: Configure, cache: Cache, name: str, frozen: int
) -> None:
    (file,) = (shared_data / "weights").glob(f"{name}*.safetensors")
    config = configure(model=ImageModel(name=name, weights=str(file)), image_size=32, frozen_layers=frozen, lr=1e-4)
    reading = run(config, cache)
    assert reading.reuse.depth == frozen and same(reading, run(config, cache, share=False))
    stored = {file: file.stat().st_ino for file in entries(cache)}
    again = run(config, cache)
    assert again.reuse.depth == frozen and same(again, reading)
    assert {file: file.stat().st_ino for file in entries(cache)} == stored, "nothing was built again"


def test_outputs_lie_as_the_network_wants_them(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=3))
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    rows = task.training[torch.tensor([5, 0, 7, 7])]
    found, wanted = dense(inputs.batch(rows, 0)), dense(task.model.forward_prefix(task.examples.take(rows, None), 3))
    assert found.stride() == wanted.stride() and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted)


def test_test_images_are_never_computed(configure: Configure, paint: Paint, cache: Cache) -> None:
    config = configure(data=ImageData(path=str(paint()), validation=0.2, test=0.3), frozen_layers=4)
    run(config, cache)
    counts = sorted((file.stat().st_size - 4096) // (64 * 4 * 4 * 4) for file in entries(cache))  # rows of [64, 4, 4] float32
    assert counts == [12, 30], "of 60 images, 18 are for the test"


def test_an_image_that_lies_in_several_files_is_stored_once(configure: Configure, paint: Paint, cache: Cache) -> None:
    folder = paint()
    for copy in range(3):
        (folder / "red" / f"copy{copy}.png").write_bytes((folder / "red" / "0.png").read_bytes())
    task = task_of(configure(data=ImageData(path=str(folder)), frozen_layers=2))
    part = StoredExamples(task, torch.cat([task.training, task.validation]), 1, augmented=False)
    assert len(part.rows) == 60 < len(task.training) + len(task.validation) == 63
    assert torch.equal(part.rows[part.places(task.training)], task.training)


def test_a_plan_for_deeper_runs_stores_nothing_that_this_run_cannot_read(configure: Configure, cache: Cache) -> None:
    reported = Run(train(configure(frozen_layers=2), device=CPU, cache=cache, demand={2: 1, 4: MUCH}))
    assert reported.reuse.depth <= 2 and len(entries(cache)) <= 2


def test_a_shallower_output_that_is_there_is_read_by_a_deeper_run(configure: Configure, cache: Cache) -> None:
    run(configure(frozen_layers=2), cache)
    before = entries(cache)
    shared = Run(train(configure(frozen_layers=3, epochs=1), device=CPU, cache=cache, demand={2: MUCH, 3: 1}))
    assert shared.reuse.depth == 2 and entries(cache) == before


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
    assert len(entries(cache)) == 1 and (mixed.reuse.depth, mixed.reuse.validation_depth) == (0, 3) and same(mixed, computed)


def test_streamed_images_are_decoded_for_building_alone(configure: Configure, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(frozen_layers=4)
    computed = run(config, cache, share=False)
    monkeypatch.setattr(examples, "HEADROOM", 2**60)  # no image fits the memory
    examples._kept.clear()
    room = Cache(cache.folder, 1)  # nor the cache, which has none for the outputs either
    assert same(run(config, room), computed)
    task = task_of(config)
    assert task.examples.origin == "streamed"
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    monkeypatch.setattr(reading, "start", None)  # from now on nothing can be decoded
    inputs.expect(task.training.split(8), 0)  # type: ignore[no-untyped-call]
    assert len(inputs.batch(task.training, 0)) == 48
    examples._kept.clear()


@pytest.mark.gpu
def test_on_a_gpu_outputs_lie_on_the_device(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    computed, reading = (run(config, cache, device=torch.device("cuda:0"), share=share) for share in (False, True))
    assert reading.reuse.place == "device" and same(reading, computed)
