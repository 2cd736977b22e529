"""The 8-bit and 4-bit codes of optimizer states: those of torchao, number for number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreambooth.families.quiet_import import quiet_import
from dreambooth.training.state_formats import BlockFormat, code_values, codes_by_cell, codes_by_search

with quiet_import():
    from torchao.optim import quant_utils

CPU = torch.device("cpu")
KINDS = [(8, True), (8, False), (4, True), (4, False)]


def torchaos_values(bits: int, is_signed: bool) -> Tensor:
    if bits == 8:
        return torch.tensor(quant_utils.create_dynamic_map(is_signed))
    return torch.tensor(quant_utils.create_dynamic_map(True, 3, 4)) if is_signed else torch.linspace(0, 1, 17)[1:]


@pytest.mark.parametrize(("bits", "is_signed"), KINDS)
def test_the_values_are_torchaos(bits: int, is_signed: bool) -> None:
    assert torch.equal(code_values(bits, is_signed=is_signed), torchaos_values(bits, is_signed))


@pytest.mark.parametrize(("bits", "is_signed"), KINDS)
def test_the_codes_are_torchaos_also_where_two_values_are_equally_near(bits: int, is_signed: bool) -> None:
    values = torchaos_values(bits, is_signed)
    middle = values[:-1] + (values[1:] - values[:-1]) * 0.5
    near = [middle]
    for towards in (-2.0, 2.0):
        around = middle
        for _ in range(40):
            around = torch.nextafter(around, torch.full_like(around, towards))
            near.append(around)
    lowest = -1.0 if is_signed else 0.0
    x_N = torch.cat([*near, values, torch.linspace(lowest, 1, 50_000)]).clamp(lowest, 1)
    block = BlockFormat(bits).block_size
    x_N = torch.cat([x_N, x_N.new_zeros(-len(x_N) % block)])
    x_N[::block] = 1.0  # so that every scale is 1
    assert codes_of(bits, is_signed, x_N).equal(torchaos_codes(bits, is_signed, x_N))


@pytest.mark.parametrize(("bits", "is_signed"), KINDS)
def test_scales_and_what_is_read_back_are_torchaos(bits: int, is_signed: bool) -> None:
    block = BlockFormat(bits).block_size
    x_N = torch.randn(32 * block, generator=torch.Generator().manual_seed(0)) * 1e-4
    x_N = x_N if is_signed else x_N.square()
    x_N[:block] = 0
    parts = encoded(bits, is_signed, x_N)
    read_N = BlockFormat(bits).decode(parts)[row_of(is_signed)]
    scale = quant_utils.scale_tensor(x_N, block)[1]
    codes = torchaos_codes(bits, is_signed, x_N)
    assert parts["scale"][row_of(is_signed)].equal(scale)
    assert read_N.equal(quant_utils.dequant_with_qmap(codes, torchaos_values(bits, is_signed), scale))


@pytest.mark.parametrize(("bits", "is_signed"), KINDS)
def test_both_ways_to_the_nearest_code_agree(bits: int, is_signed: bool) -> None:
    """A CPU looks codes up in tables, other devices search for them: at every value, and far from the tested ones."""
    values = torchaos_values(bits, is_signed)
    spread = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    x_N = torch.cat([values, values.nextafter(values + 1), values.nextafter(values - 1), spread, spread**9, torch.zeros(1)])
    x_N = torch.cat([x_N, -x_N]).clamp(-1, 1) if is_signed else x_N.clamp(0, 1)
    searched = codes_by_search(in_row(is_signed, x_N), bits)
    assert codes_by_cell(in_row(is_signed, x_N), bits).equal(searched)
    assert len(searched[row_of(is_signed)].unique()) == 2**bits


def row_of(is_signed: bool) -> int:
    """The first moment, which is signed, is the first row, and the second the second."""
    return 0 if is_signed else 1


def in_row(is_signed: bool, x_N: Tensor) -> Tensor:
    return torch.stack([x_N, torch.zeros_like(x_N)]).roll(row_of(is_signed), dims=0)


def encoded(bits: int, is_signed: bool, x_N: Tensor) -> dict[str, Tensor]:
    """What both moments are stored as, one of them zero; its shapes are those of the storage."""
    parts = BlockFormat(bits).encode(in_row(is_signed, x_N))
    for part, zeros in BlockFormat(bits).zeros(len(x_N), device=CPU).items():
        assert (parts[part][0].shape, parts[part].dtype) == (zeros.shape, zeros.dtype)
    return parts


def codes_of(bits: int, is_signed: bool, x_N: Tensor) -> Tensor:
    codes = encoded(bits, is_signed, x_N)["codes"][row_of(is_signed)]
    return codes if bits == 8 else torch.stack([codes >> 4, codes & 0b1111], dim=1).view(-1)


def torchaos_codes(bits: int, is_signed: bool, x_N: Tensor) -> Tensor:
    quantize = quant_utils.quantize_8bit_with_qmap if bits == 8 else quant_utils.quantize_4bit_with_qmap
    codes: Tensor = quantize(quant_utils.scale_tensor(x_N, BlockFormat(bits).block_size)[0], torchaos_values(bits, is_signed))
    return codes
