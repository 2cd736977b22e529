"""The record of what a denoiser is told: batches, copies, and fields that only some families use."""

from __future__ import annotations

import pytest
import torch

from dreambooth.diffusion.conditioning import Conditioning, stack_texts


def single(value: float) -> Conditioning:
    return Conditioning(torch.full((3, 2), value), torch.full((5,), value + 0.5), torch.full((6,), value + 1000))


def assert_equal(one: Conditioning, other: Conditioning) -> None:
    for name in ("states_BLD", "pooled_BD", "sizes_B6"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        assert left is None or (left.dtype == right.dtype and torch.equal(left, right))


def test_a_batch_gives_back_what_it_was_stacked_from() -> None:
    batch = Conditioning.stack([single(1), single(2), single(3)])
    assert batch.states_BLD.shape == (3, 3, 2)
    for row in range(3):
        assert_equal(batch.index(row), single(row + 1))
    assert_equal(batch.index(slice(1, 3)), Conditioning.stack([single(2), single(3)]))


def test_fields_that_are_absent_stay_absent() -> None:
    batch = Conditioning.stack([Conditioning(torch.ones(3, 2)), Conditioning(torch.zeros(3, 2))])
    for record in (batch, batch.index(0), batch.to("cpu", torch.float16), Conditioning.concatenate([batch, batch])):
        assert record.pooled_BD is None
        assert record.sizes_B6 is None


def test_one_row_expands_without_a_copy() -> None:
    row = Conditioning.stack([single(4)])
    expanded = row.expand(3)
    assert_equal(expanded, Conditioning.stack([single(4)] * 3))
    assert expanded.states_BLD.data_ptr() == row.states_BLD.data_ptr()
    assert_equal(Conditioning.concatenate([row, expanded]), Conditioning.stack([single(4)] * 4))


def test_sizes_keep_their_number_format() -> None:
    converted = single(1).to("cpu", torch.bfloat16)
    assert converted.states_BLD.dtype == torch.bfloat16
    assert converted.pooled_BD is not None
    assert converted.pooled_BD.dtype == torch.bfloat16
    assert converted.sizes_B6 is not None
    assert converted.sizes_B6.tolist() == [1001.0] * 6  # bfloat16 would have made it 1000


def test_records_of_different_families_do_not_mix() -> None:
    with pytest.raises(AssertionError, match="lack a field"):
        Conditioning.stack([single(1), Conditioning(torch.ones(3, 2))])
    with pytest.raises(AssertionError, match="do not mix"):
        stack_texts([torch.tensor([1, 2]), single(1)])


def test_texts_are_ids_or_conditioning() -> None:
    ids = stack_texts([torch.tensor([1, 2]), torch.tensor([3, 4])])
    assert isinstance(ids, torch.Tensor)
    assert ids.tolist() == [[1, 2], [3, 4]]
    encoded = stack_texts([single(1), single(2)])
    assert isinstance(encoded, Conditioning)
    assert_equal(encoded, Conditioning.stack([single(1), single(2)]))
