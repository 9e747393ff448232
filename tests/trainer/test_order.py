"""The images' order is a run's own only as far as its order seed is."""

import torch

from trainer.order import batches, seed_for, shuffled

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
