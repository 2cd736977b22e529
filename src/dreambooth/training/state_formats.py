"""Storage formats of optimizer states: float32, or blocks of 8-bit or 4-bit codes with one scale per block.

The codes are those of Dettmers et al., arXiv 2110.02861, section 2: a few bits of a number's exponent, the others of its
fraction. Unsigned 4-bit codes are evenly spaced (Li et al., arXiv 2309.01507). torchao has both; its numbers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from dreambooth.memory.settings import StateFormat

__all__ = ["BlockFormat", "Float32Format", "KeptFormat", "code_values", "codes_by_cell", "codes_by_search", "format_for"]

_BLOCK_SIZES = {8: 256, 4: 128}  # as in torchao
_SMALLEST_CODED = 4096  # smaller tensors, such as those of a norm, save too little to justify the loss of precision
_SMALLEST_SCALE = 1e-12  # as in torchao; a block of zeros has it
_MOST_ROUNDINGS = 64  # float32 numbers that may lie between a computed half and the true one


class KeptFormat(Protocol):
    """Converts between the two moments of AdamW in float32 and the tensors that store them."""

    def zeros(self, count: int, *, device: torch.device) -> dict[str, Tensor]:
        """Stored tensors for `count` zeros of one moment."""
        ...

    def cut(self, kept: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        """Views of what stores the numbers from `start` to `stop`; both are multiples of 256 or an end of the tensor."""
        ...

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Both moments in float32, (2, N), as a copy. Each part has two rows: the first moment is signed, the second not."""
        ...

    def encode(self, x_2N: Tensor) -> dict[str, Tensor]:
        """The parts that store both moments, each with two rows; uses `x_2N` up."""
        ...


@dataclass(frozen=True)
class Float32Format:
    """Plain float32 storage."""

    def zeros(self, count: int, *, device: torch.device) -> dict[str, Tensor]:
        """One float32 tensor."""
        return {"": torch.zeros(count, device=device)}

    def cut(self, kept: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        """The numbers themselves."""
        return {"": kept[""][start:stop]}

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """A copy."""
        return parts[""].clone()

    def encode(self, x_2N: Tensor) -> dict[str, Tensor]:
        """The numbers themselves."""
        return {"": x_2N}


@dataclass(frozen=True)
class BlockFormat:
    """Codes of 8 or 4 bits; the largest number of each block is its scale, and two 4-bit codes share a byte."""

    bits: int

    @property
    def block_size(self) -> int:
        """Numbers per scale."""
        return _BLOCK_SIZES[self.bits]

    def zeros(self, count: int, *, device: torch.device) -> dict[str, Tensor]:
        """Codes and scales; a scale of zero makes every code zero."""
        return {
            "codes": torch.zeros(count * self.bits // 8, dtype=torch.uint8, device=device),
            "scale": torch.zeros(count // self.block_size, device=device),
        }

    def cut(self, kept: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        """The codes and scales of whole blocks."""
        return {
            "codes": kept["codes"][start * self.bits // 8 : stop * self.bits // 8],
            "scale": kept["scale"][start // self.block_size : stop // self.block_size],
        }

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The numbers that the codes represent."""
        byte_2C = parts["codes"].int()
        byte_2C[1] += 2**8  # the second half of the table
        numbers = _numbers_of_bytes(self.bits, byte_2C.device).index_select(0, byte_2C.view(-1)).view(torch.float32)
        return numbers.view(2, -1, self.block_size).mul_(parts["scale"].unsqueeze(-1)).view(2, -1)

    def encode(self, x_2N: Tensor) -> dict[str, Tensor]:
        """The nearest codes, with one scale per block."""
        blocks_2MB = x_2N.view(2, -1, self.block_size)
        scale_2M = blocks_2MB.abs().amax(-1).clamp_(min=_SMALLEST_SCALE)
        blocks_2MB.div_(scale_2M.unsqueeze(-1))
        codes_2N = (codes_by_cell if x_2N.device.type == "cpu" else codes_by_search)(x_2N, self.bits)
        if self.bits == 4:
            codes_2N = (codes_2N[:, ::2] << 4).bitwise_or_(codes_2N[:, 1::2])
        return {"codes": codes_2N, "scale": scale_2M}


def format_for(name: StateFormat, count: int) -> KeptFormat:
    """The format of a moment of `count` numbers: small tensors, and those that do not fill whole blocks, stay in float32."""
    if name == "float32":
        return Float32Format()
    coded = BlockFormat(8 if name == "8bit" else 4)
    return coded if count >= _SMALLEST_CODED and count % coded.block_size == 0 else Float32Format()


def code_values(bits: int, *, is_signed: bool) -> Tensor:
    """The value of each code, ascending, float32 in [-1, 1]; there are 2^bits. Unsigned 4-bit values begin above zero.

    Each power of ten from 1 down has half as many values as the one above it, evenly spaced; 0 and 1 are values too.
    """
    if bits == 4 and not is_signed:
        return torch.linspace(0, 1, 17)[1:]
    num_powers = 7 if bits == 8 else 3
    values = [0.0, 1.0]
    for power in range(num_powers):
        edges = torch.linspace(0.1, 1, (1 if is_signed else 2) * 2**power + 1)
        between = (10.0 ** (power - num_powers + 1) * ((edges[:-1] + edges[1:]) / 2)).tolist()
        values += [*between, *(-value for value in between)] if is_signed else between
    return torch.tensor(sorted(values), dtype=torch.float32)


def codes_by_search(x_2N: Tensor, bits: int) -> Tensor:
    """The code of the value nearest to each number, uint8; the first row is in [-1, 1], the second in [0, 1].

    By binary search, which takes few operations.
    """
    codes_2N = torch.empty(x_2N.shape, dtype=torch.int32, device=x_2N.device)
    for x_N, codes_N, is_signed in zip(x_2N, codes_2N, (True, False), strict=True):
        torch.bucketize(x_N, _first_of_each(bits, is_signed, x_N.device), out_int32=True, right=True, out=codes_N)
    return codes_2N.to(torch.uint8)


def codes_by_cell(x_2N: Tensor, bits: int) -> Tensor:
    """The same by two table look-ups, which a CPU does in a tenth of the time of the search."""
    lowest, first_of_next = _cells(bits, x_2N.device)
    cell_2N = (x_2N.view(torch.int32) >> 16).bitwise_and_(0xFFFF)
    cell_2N[1] += 2**16  # the second half of the tables
    cell = cell_2N.view(-1)
    return lowest.index_select(0, cell).add_(x_2N.view(-1) >= first_of_next.index_select(0, cell)).view(x_2N.shape)


@cache
def _numbers_of_bytes(bits: int, device: torch.device) -> Tensor:
    """What each byte of codes represents, signed, then unsigned: a float32, or two of them in the bits of a float64."""
    values = torch.stack([code_values(bits, is_signed=is_signed) for is_signed in (True, False)])
    if bits == 4:
        upper, lower = values.repeat_interleave(16, dim=1), values.repeat(1, 16)
        values = torch.stack([upper, lower], dim=-1).view(torch.float64)
    return values.view(-1).to(device)


@cache
def _first_of_each(bits: int, is_signed: bool, device: torch.device) -> Tensor:
    """The smallest number that each code but the first stands for: halfway from the value below it, as float32 rounds that."""
    values = code_values(bits, is_signed=is_signed)
    down, half = values[:-1], (values[1:] - values[:-1]) * 0.5
    first = down + half
    for towards in (-torch.inf, torch.inf):  # to where the rounded difference to the value below reaches half of the gap
        for _ in range(_MOST_ROUNDINGS):
            neighbor = torch.nextafter(first, torch.full_like(first, towards))
            is_right = neighbor - down >= half if towards < 0 else first - down < half
            first = torch.where(is_right, neighbor, first)
    return first.to(device)


@cache
def _cells(bits: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """By the upper 16 bits of a float32: the lowest code of the numbers that have them, and the first number of the next code.

    Infinity where all have the same code. No cell has more than two. Signed codes, then unsigned ones.
    """
    upper = (torch.arange(2**16, dtype=torch.int32) - 2**15) << 16
    ends = torch.stack([upper.view(torch.float32), (upper | 0xFFFF).view(torch.float32)]).roll(2**15, dims=1)
    ends = torch.where(ends.isnan(), ends[0], ends)  # the cells of infinity, which no block contains
    tables = []
    for is_signed in (True, False):
        first = _first_of_each(bits, is_signed, torch.device("cpu"))
        lowest, highest = torch.bucketize(ends, first, right=True).sort(dim=0).values
        assert int((highest - lowest).max()) <= 1, "more than two codes in one cell"
        first_of_next = torch.where(highest > lowest, first[lowest.clamp(max=len(first) - 1)], torch.inf)
        tables.append((lowest.to(torch.uint8), first_of_next))
    lowest, first_of_next = (torch.cat(halves).to(device) for halves in zip(*tables, strict=True))
    return lowest, first_of_next
