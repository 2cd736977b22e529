"""A sealed file is as it was written, or it is refused."""

from __future__ import annotations

import random

import pytest
import torch
from safetensors.torch import load, save

from dreambooth.seals import sealed, unsealed

DATA = sealed(save({"mean": torch.arange(6.0).reshape(2, 3), "deviation": torch.ones(2)}, {"about": "x"}))


def test_a_sealed_file_is_read_by_every_program_and_keeps_its_metadata() -> None:
    assert unsealed(DATA) == {"about": "x"}
    tensors = load(DATA)
    assert tensors["mean"].tolist() == [[0, 1, 2], [3, 4, 5]] and tensors["deviation"].tolist() == [1, 1]


def test_every_changed_bit_is_found() -> None:
    for place in range(len(DATA)):
        for bit in range(8):
            changed = bytearray(DATA)
            changed[place] ^= 1 << bit
            try:
                found = unsealed(bytes(changed))
            except ValueError:
                continue
            # The only bits that mean nothing are those of the padding behind the header, and of the letters of \\u escapes.
            assert found == {"about": "x"} and load(bytes(changed))["mean"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("length", range(0, len(DATA), 7))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        unsealed(DATA[:length])


def test_a_file_without_a_digest_and_noise_are_refused() -> None:
    chance = random.Random(0)
    for data in (
        save({"mean": torch.zeros(2)}),
        save({"mean": torch.zeros(2)}, {"sha256": "0"}),
        *map(chance.randbytes, range(200)),
    ):
        with pytest.raises(ValueError, match=r"."):
            unsealed(data)
