"""Sequences of different lengths: mask, packing, and the places of padded sequences in a packed tensor."""

import torch

from trainer.sequences import Sequences, places_of, starts_of

LENGTHS = torch.tensor([2, 1, 3])
VALUES = torch.arange(3 * 3 * 2).view(3, 3, 2)


def test_the_mask_marks_the_positions_of_each_sequence() -> None:
    assert Sequences(VALUES, LENGTHS).mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_packed_values_are_read_back_at_their_places() -> None:
    packed = Sequences(VALUES, LENGTHS).packed()
    assert packed.shape == (6, 2)
    read = Sequences(packed[places_of(starts_of(LENGTHS), LENGTHS)], LENGTHS)
    assert torch.equal(read.values[read.mask], VALUES[read.mask])
    assert torch.equal(read.values[1], VALUES[1, :1].expand(3, 2)), "padding repeats the last value"


def test_some_sequences_are_read_in_another_order() -> None:
    packed, rows = Sequences(VALUES, LENGTHS).packed(), torch.tensor([2, 0])
    read = Sequences(packed[places_of(starts_of(LENGTHS)[rows], LENGTHS[rows])], LENGTHS[rows])
    assert torch.equal(read.packed(), torch.cat([VALUES[2], VALUES[0, :2]]))
