"""The images' order is a run's own only as far as its order seed is."""

import torch
from torch import Tensor

from tests.trainer.dispatched import Counted
from trainer.order import RowsAhead, batches, seed_for, shuffled
from trainer.preparation import taken

ROWS = torch.arange(100, 150)


def test_the_order_follows_from_order_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = shuffled(ROWS, 7, 3)
    torch.manual_seed(2)
    assert torch.equal(shuffled(ROWS, 7, 3), first)
    assert not torch.equal(shuffled(ROWS, 7, 4), first) and not torch.equal(shuffled(ROWS, 8, 3), first)
    assert torch.equal(first.sort().values, ROWS)


def test_a_last_batch_of_one_is_left_out_unless_all_are() -> None:
    assert [len(batch) for batch in batches(ROWS, 7)] == [7] * 7
    assert [len(batch) for batch in batches(ROWS, 16)] == [16, 16, 16, 2]
    assert len(batches(ROWS, 1)) == len(ROWS)


def test_seeds_differ_by_purpose_and_fit_a_generator() -> None:
    assert seed_for(3, "order", 1) != seed_for(3, "numbers", 1)
    assert all(0 <= seed_for(seed, "order", 1) < 2**63 for seed in range(200))


def test_the_rows_of_announced_batches_are_moved_to_a_device_together() -> None:
    batches = list(torch.split(torch.randperm(10), 4))
    ahead = RowsAhead(torch.device("meta"))
    with Counted() as counted:
        ahead.expect(batches)
    assert counted.calls["aten::_to_copy"] == 1
    with Counted() as counted:
        moved = [ahead.of(batch) for batch in batches]
    assert not counted.calls and [one is not None and (one.device.type, len(one)) for one in moved] == [
        ("meta", 4),
        ("meta", 4),
        ("meta", 2),
    ]
    assert ahead.of(batches[0].clone()) is None, "equal rows that were not announced"
    ahead.expect(batches[:1])
    assert ahead.of(batches[1]) is None


def test_places_of_announced_batches_are_looked_up_at_once_and_never_on_a_cpu() -> None:
    batches, asked = list(torch.split(torch.randperm(10), 4)), list[Tensor]()

    def places(rows: Tensor) -> Tensor:
        asked.append(rows)
        return rows[:0].new_empty((len(rows), 3))

    ahead, on_cpu = RowsAhead(torch.device("meta")), RowsAhead(torch.device("cpu"))
    ahead.expect(batches, places)
    found = ahead.of(batches[2])
    assert found is not None and found.shape == (2, 3) and [len(rows) for rows in asked] == [10]
    on_cpu.expect(batches, places)
    assert on_cpu.of(batches[0]) is None and len(asked) == 1


def test_the_targets_of_announced_batches_are_taken_without_a_copy() -> None:
    batches, targets = list(torch.split(torch.randperm(10), 4)), torch.arange(10, device="meta")
    ahead = RowsAhead(torch.device("meta"))
    ahead.expect(batches)
    with Counted() as counted:
        found = taken(targets, batches[0], ahead)
    assert len(found) == 4 and counted.calls["aten::_to_copy"] == 0
    with Counted() as counted:
        taken(targets, batches[0])
    assert counted.calls["aten::_to_copy"] == 1
