"""How many numbers the tensor-wise optimizer works on at once."""

from __future__ import annotations

import torch

from dreambooth.training.flat import CUT

__all__ = ["numbers_at_once"]

_IN_CACHE = 2**17
_STREAMED = 2**20
_LARGEST = 2**24
_SMALLEST = 2**16
_NUM_BATCHES = 56


def numbers_at_once(total: int, device: torch.device, *, is_streamed: bool) -> int:
    """For a trainee of `total` numbers. `is_streamed`: weights leave the device once they have their gradients.

    On a CPU as many as stay in its cache. On other devices an operation costs a launch, so a step should have few of them; the
    limit is proportional to the trainee, because a batch needs 23 to 32 bytes per number, which must be little beside it.
    """
    if device.type == "cpu":
        return _IN_CACHE
    if is_streamed:  # each tensor is updated alone
        return _STREAMED
    return min(_LARGEST, max(_SMALLEST, total // _NUM_BATCHES // CUT * CUT))
