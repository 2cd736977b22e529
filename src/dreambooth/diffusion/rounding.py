"""Stochastic rounding to bfloat16, with counter-based randomness.

bfloat16 has 8 significant bits: a weight of 0.1 cannot change by less than about 0.0002, and rounding to nearest loses all
smaller updates, no matter how many there are. Rounding up with a probability equal to the remainder keeps the mean exact
(Gupta et al., arXiv 1502.02551, section 3). The random bits are a pure function of a key and the element's position, in
integer arithmetic that is the same on every device.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["round_rows_to_bfloat16", "round_to_bfloat16", "rounding_key"]

_LOW_BITS = 0xFFFF
_HIGH_BITS = -0x10000  # the upper half of 32 bits, as a signed number
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B - 2**32)  # as signed numbers; the finalizer "lowbias32" by Chris Wellons, 2018


def rounding_key(seed: int, *key: str | int) -> tuple[int, int]:
    """Two signed 32-bit numbers that depend only on the seed and the key."""
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8, person=b"dreambooth").digest()
    return int.from_bytes(digest[:4], "little", signed=True), int.from_bytes(digest[4:], "little", signed=True)


def round_to_bfloat16(x_N: Tensor, key_2: Tensor, *, start: int = 0) -> Tensor:
    """Each float32 number rounded to one of its two neighbors in bfloat16, (N,); its mean over keys is the number itself.

    `key_2` holds the two numbers of `rounding_key` as int32 on the device of `x_N`. `start` is the position of the first
    element in its tensor, so that a tensor can be rounded in pieces. Numbers representable in bfloat16, and infinity, stay.
    """
    start_1 = torch.full((1,), start, dtype=torch.int32, device=x_N.device)
    return round_rows_to_bfloat16(x_N.contiguous().view(1, -1), start_1, key_2.view(1, 2)).view(-1)


def round_rows_to_bfloat16(x_MB: Tensor, start_M: Tensor, key_M2: Tensor) -> Tensor:
    """The same for rows of tensors, (M, B): row m begins at position `start_M[m]` of the tensor that has `key_M2[m]`.

    `x_MB` is contiguous; starts and keys are int32.
    """
    place_B = torch.arange(x_MB.shape[1], dtype=torch.int32, device=x_MB.device)
    random_MB = start_M.unsqueeze(1) + place_B
    for number_M in key_M2.unbind(1):
        _mix_(random_MB.bitwise_xor_(number_M.unsqueeze(1)))
    bits_MB = random_MB.bitwise_and_(_LOW_BITS).add_(x_MB.view(torch.int32)).bitwise_and_(_HIGH_BITS)
    return bits_MB.view(torch.float32).to(torch.bfloat16)


def _mix_(x: Tensor) -> None:
    """A hash in place: every bit of the result depends on every bit of `x`; int32 products wrap around."""
    first, second = _MULTIPLIERS
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(first)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(second)
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))
