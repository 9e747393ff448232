"""The recorded lists: the files are what is drawn, and fit every workload."""

from collections import Counter

import pytest

from bench.replay.orders import Order
from bench.replay.recorded import LISTS, frozen
from bench.replay.workloads import Workload
from trainer.tasks.images.config import ImageData, ImageModel

NO_FILES = {
    "small_cnn": Workload(
        name="digits", data=ImageData(path="data"), model=ImageModel(name="small_cnn", weights="cnn.safetensors"), image_size=16
    ),
    "squeezenet1_1": Workload(
        name="signs", data=ImageData(path="data"), model=ImageModel(name="squeezenet1_1", weights="squeezenet.safetensors"), image_size=64
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_the_file_holds_what_is_drawn(name: str) -> None:
    assert LISTS[name].points() == LISTS[name].draw()
    assert len(LISTS[name].points()) == LISTS[name].count


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("model", NO_FILES)
def test_every_point_is_a_trial_of_the_study_that_is_posted(name: str, model: str) -> None:
    order = Order(engine="naive", workload=NO_FILES[model], recorded=name, numbers=LISTS[name].sample(None))
    space = order.spec.search_space
    assert [fault for params in order.params.values() for fault in space.faults_of(params)] == []
    configs = order.configs.values()
    assert len({config.model_dump_json() for config in configs}) == LISTS[name].count
    assert {config.epochs for config in configs} == {LISTS[name].epochs}


def test_head_only_means_every_stage_of_each_model() -> None:
    for workload in NO_FILES.values():
        order = Order(engine="naive", workload=workload, recorded="A", numbers=(0, 127))
        assert {config.frozen_layers for config in order.configs.values()} == {workload.stages}
    assert [frozen(9, trained) for trained in (0, 1, 2, 4, None)] == [9, 8, 7, 5, 0]


def test_another_seed_of_the_study_gives_the_trials_other_seeds_and_nothing_else() -> None:
    order = Order(engine="naive", workload=NO_FILES["small_cnn"], recorded="B", numbers=(3,))
    ours, theirs = order.configs[3], order.model_copy(update={"seed": 1}).configs[3]
    assert ours.seed != theirs.seed
    assert ours == theirs.model_copy(update={"seed": ours.seed, "order_seed": ours.order_seed})


def test_a_sample_is_the_same_each_time_and_no_point_comes_twice() -> None:
    assert LISTS["A"].sample(8) == LISTS["A"].sample(8)
    assert len(set(LISTS["A"].sample(8))) == 8
    assert LISTS["C"].sample(16) == LISTS["C"].sample(None) == tuple(range(8))


def test_each_depth_has_its_share_of_a_sample() -> None:
    points = LISTS["B"].points()
    whole, some = Counter(point["trained"] for point in points), Counter(points[number]["trained"] for number in LISTS["B"].sample(12))
    assert all(abs(some[depth] - count / 2) < 1 for depth, count in whole.items())
