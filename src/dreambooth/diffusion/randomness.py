"""Counter-based randomness: drawing changes no state.

Every random number of the project is a pure function of a seed and a key such as ("noise", step, role, slot). There is no
state to save, so splitting a batch differently, using more processes, caching, or stopping and resuming changes no number.
Numbers are drawn on the CPU, so all devices get the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["generator", "normal", "permutation", "seeded", "uniform", "uniform_integer"]

Key = str | int


def generator(seed: int, *key: Key) -> torch.Generator:
    """A CPU generator that depends only on `seed` and `key`.

    The key is hashed with BLAKE2b, including types: ("a", 1) and ("a1",) and ("a", "1") give unrelated streams.
    """
    text = repr((seed, *key)).encode()
    state = int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"dreambooth").digest(), "little")
    return torch.Generator().manual_seed(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator starts from `seed`, for libraries that use it; its state is restored afterwards."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def normal(shape: Sequence[int], seed: int, *key: Key) -> Tensor:
    """Standard normal numbers of `shape` in float32."""
    return torch.randn(tuple(shape), generator=generator(seed, *key))


def uniform(seed: int, *key: Key) -> float:
    """One number in [0, 1)."""
    return float(torch.rand((), generator=generator(seed, *key), dtype=torch.float64))


def uniform_integer(high: int, seed: int, *key: Key) -> int:
    """One integer in [0, high), all equally likely."""
    return int(torch.randint(high, (), generator=generator(seed, *key)))


def permutation(length: int, seed: int, *key: Key) -> list[int]:
    """The integers in [0, length) in an order that depends on the key."""
    order: list[int] = torch.randperm(length, generator=generator(seed, *key)).tolist()
    return order
