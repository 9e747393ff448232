"""What the tables say follows from what was measured."""

import pytest

from bench.replay import report
from bench.replay.costs import Costs, count
from bench.replay.orders import Order, Outcome, Trained
from bench.replay.recorded import LISTS
from bench.replay.running import Replay
from bench.tables import mean_interval
from tests.bench.test_recorded import NO_FILES

COSTS = Costs(forward=(1.0, 2.0, 10.0), step=(39.0, 36.0, 30.0), training=6, validation=2)  # two stages and a head


def replay(engine: str, numbers: tuple[int, ...], seconds: float, accuracy: float = 0.5, start: float = 1.0) -> Replay:
    order = Order(engine=engine, workload=NO_FILES["small_cnn"], recorded="A", numbers=numbers)
    metrics = {"accuracy": accuracy, "loss": 1.0}
    trials = tuple(Trained(number=number, seconds=seconds, metrics=metrics) for number in numbers)
    busy = seconds * len(numbers)
    return Replay(order, Outcome(trials=trials, busy_seconds=busy), wall_seconds=start + busy, peak_bytes=2_000_000)


def test_a_sample_is_scaled_by_its_trials_and_not_by_its_start() -> None:
    assert replay("naive", LISTS["A"].sample(8), seconds=2.0).scaled(128) == pytest.approx(1 + 128 * 2)


def test_the_ratio_is_of_the_whole_list_and_a_missed_target_is_named() -> None:
    ours = replay("thawline", LISTS["A"].sample(None), seconds=0.1, start=0.2)  # 13 s
    table = report.times([ours, replay("naive", LISTS["A"].sample(8), seconds=20.5), replay("strong", LISTS["A"].sample(16), seconds=5.0)])
    naive, strong = (next(line for line in table.splitlines() if line.startswith(f"| {name}")) for name in ("naive", "strong"))
    assert "| 202 (202 to 202) | at least 200 |" in naive
    assert "49.3 (49.3 to 49.3) **missed** | at least 50 |" in strong


def test_parity_compares_what_both_have_brought_to_their_end() -> None:
    ours, theirs = replay("thawline", (0, 1, 2), 1.0, accuracy=0.75), replay("naive", (1, 2, 3), 1.0, accuracy=0.5)
    assert report.differences(ours, theirs) == [25.0, 25.0]
    diverged = Outcome(trials=(Trained(number=1, seconds=1.0, metrics={}),), busy_seconds=1.0)
    assert report.differences(ours, Replay(theirs.order, diverged, 1.0, 1)) == []


def test_the_interval_of_the_mean_holds_the_mean_and_one_value_has_none() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert 1 <= low < 2.5 < high <= 4
    assert mean_interval([3.0]) == (3.0, 3.0)


def test_a_trial_executes_its_frozen_stages_each_epoch_unless_it_reads_their_output() -> None:
    config = replay("naive", (0,), 1.0).order.configs[0].model_copy(update={"frozen_layers": 2, "epochs": 5})
    assert COSTS.trial(config) == 5 * (6 * (3 + 30) + 2 * 13)
    assert COSTS.trial(config, depth=2) == 5 * (6 * 30 + 2 * 10)
    assert COSTS.unique([config] * 4) == 4 * COSTS.trial(config, depth=2) + 8 * 3
    assert COSTS.executed({0: config, 1: config}, {0: 2, 1: 2}) == COSTS.unique([config] * 2)
    assert COSTS.executed({0: config, 1: config}, {0: 0, 1: 0}) == 2 * COSTS.trial(config)


def test_operations_are_counted_of_the_real_network(tiny: Order) -> None:
    found = count(tiny.workload)
    stem = 2 * 16 * 16 * 16 * 3 * 9  # a multiply-add for each output pixel and channel, input channel and tap
    assert found.forward[0] == stem
    assert found.forward[-1] == 2 * 64 * 2  # the linear layer on two classes
    assert list(found.step) == sorted(found.step, reverse=True)
    assert found.step[0] == pytest.approx(3 * found.between(0) - stem)  # nobody wants the gradient of the pixels
