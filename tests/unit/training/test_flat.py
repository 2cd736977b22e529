"""Tensors in batches: every number once, in order, and no batch larger than it may be."""

from __future__ import annotations

import random

import pytest
import torch

from dreambooth.training.flat import CUT, BatchQueue, gathered, write_back


@pytest.mark.parametrize("most", [CUT, 2 * CUT, 5 * CUT])
def test_every_number_is_in_one_batch(most: int) -> None:
    random.seed(most)
    counts = [random.choice([1, 4, 255, 256, 257, 1000, 1024, 5120, 5121]) for _ in range(200)]
    queue: BatchQueue[int] = BatchQueue(most)
    batches = [batch for index, count in enumerate(counts) for batch in queue.add(index % 2, index, count)]
    assert all(sum(piece.count for piece in batch) > most - CUT for batch in batches)
    batches += queue.rest()
    assert list(queue.rest()) == []
    assert all(0 < sum(piece.count for piece in batch) <= most for batch in batches)
    assert all(piece.item % 2 == batch[0].item % 2 for batch in batches for piece in batch)
    covered: dict[int, int] = dict.fromkeys(range(len(counts)), 0)
    for piece in (piece for batch in batches for piece in batch):
        assert piece.start == covered[piece.item] and piece.start % CUT == 0
        covered[piece.item] = piece.stop
        assert piece.is_last == (piece.stop == counts[piece.item])
    assert list(covered.values()) == counts


def test_a_tensor_alone_is_not_copied() -> None:
    device, alone, others = torch.device("cpu"), torch.ones(3), [torch.ones(3), torch.zeros(2)]
    flat = gathered([alone], device)
    assert flat is alone
    write_back(flat, [alone])
    write_back(gathered([alone], device, torch.bfloat16) * 2, [alone])
    assert alone.tolist() == [2, 2, 2]
    flat = gathered(others, device, torch.bfloat16)
    assert flat.tolist() == [1, 1, 1, 0, 0] and flat.dtype == torch.bfloat16
    write_back(flat + 1, others)
    assert [tensor.tolist() for tensor in others] == [[2, 2, 2], [1, 1]]
