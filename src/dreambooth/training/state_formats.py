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
    """Converts between float32 numbers and their stored tensors. Pieces begin and end at multiples of 256."""

    def zeros(self, count: int, *, is_signed: bool, device: torch.device) -> dict[str, Tensor]:
        """Stored tensors for `count` zeros."""
        ...

    def decode(self, kept: Mapping[str, Tensor], start: int, stop: int, *, is_signed: bool, device: torch.device) -> Tensor:
        """The numbers from `start` to `stop` in float32 on `device`."""
        ...

    def encode(self, kept: Mapping[str, Tensor], start: int, stop: int, x_N: Tensor, *, is_signed: bool) -> None:
        """Store the float32 numbers `x_N` at positions `start` to `stop`."""
        ...


class Float32Format:
    """Plain float32 storage."""

    def zeros(self, count: int, *, is_signed: bool, device: torch.device) -> dict[str, Tensor]:
        """One float32 tensor."""
        return {"": torch.zeros(count, device=device)}

    def decode(self, kept: Mapping[str, Tensor], start: int, stop: int, *, is_signed: bool, device: torch.device) -> Tensor:
        """The numbers as a copy, which may be modified."""
        return kept[""][start:stop].to(device, copy=True, non_blocking=True)

    def encode(self, kept: Mapping[str, Tensor], start: int, stop: int, x_N: Tensor, *, is_signed: bool) -> None:
        """Copy the numbers to their place."""
        kept[""][start:stop].copy_(x_N)


@dataclass(frozen=True)
class BlockFormat:
    """Codes of 8 or 4 bits; the largest number of each block is its scale, and two 4-bit codes share a byte."""

    bits: int

    @property
    def block_size(self) -> int:
        """Numbers per scale."""
        return _BLOCK_SIZES[self.bits]

    def zeros(self, count: int, *, is_signed: bool, device: torch.device) -> dict[str, Tensor]:
        """Codes and scales; a scale of zero makes every code zero."""
        return {
            "codes": torch.zeros(count * self.bits // 8, dtype=torch.uint8, device=device),
            "scale": torch.zeros(count // self.block_size, device=device),
        }

    def decode(self, kept: Mapping[str, Tensor], start: int, stop: int, *, is_signed: bool, device: torch.device) -> Tensor:
        """The numbers that the codes represent."""
        codes = kept["codes"][start * self.bits // 8 : stop * self.bits // 8].to(device, non_blocking=True)
        scale = kept["scale"][start // self.block_size : stop // self.block_size].to(device, non_blocking=True)
        if self.bits == 4:
            codes = torch.stack([codes >> 4, codes & 0b1111], dim=-1).reshape(-1)
        values_MB = _code_values(self.bits, is_signed, device).index_select(0, codes.int()).view(-1, self.block_size)
        return values_MB.mul_(scale.unsqueeze(1)).view(-1)

    def encode(self, kept: Mapping[str, Tensor], start: int, stop: int, x_N: Tensor, *, is_signed: bool) -> None:
        """Store the nearest codes, with one scale per block."""
        blocks_MB = x_N.view(-1, self.block_size)
        scale = blocks_MB.abs().amax(1).clamp(min=_SMALLEST_SCALE)
        codes = _nearest_codes((blocks_MB / scale.unsqueeze(1)).view(-1), self.bits, is_signed=is_signed)
        if self.bits == 4:
            codes = (codes[::2] << 4) | codes[1::2]
        kept["codes"][start * self.bits // 8 : stop * self.bits // 8].copy_(codes)
        kept["scale"][start // self.block_size : stop // self.block_size].copy_(scale)


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


def _nearest_codes(x_N: Tensor, bits: int, *, is_signed: bool) -> Tensor:
    """The code of the value nearest to each number in [-1, 1], integers in [0, 2^bits), of any integer dtype."""
    find = codes_by_cell if x_N.device.type == "cpu" else codes_by_search
    return find(x_N, bits, is_signed=is_signed)


def codes_by_search(x_N: Tensor, bits: int, *, is_signed: bool) -> Tensor:
    """In int32, by binary search: one operation."""
    return torch.bucketize(x_N, _first_of_each(bits, is_signed, x_N.device), out_int32=True, right=True)


def codes_by_cell(x_N: Tensor, bits: int, *, is_signed: bool) -> Tensor:
    """In uint8, by two table look-ups: six operations, which a CPU does in a tenth of the time of the search."""
    lowest, first_of_next = _cells(bits, is_signed, x_N.device)
    cell_N = x_N.view(torch.int32) >> 16
    if is_signed:  # the sign was shifted into the upper half
        cell_N &= 0xFFFF
    return lowest.index_select(0, cell_N).add_(x_N >= first_of_next.index_select(0, cell_N))


@cache
def _code_values(bits: int, is_signed: bool, device: torch.device) -> Tensor:
    return code_values(bits, is_signed=is_signed).to(device)


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
def _cells(bits: int, is_signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """By the upper 16 bits of a float32: the lowest code of the numbers that have them, and the first number of the next code.

    Infinity where all have the same code. No cell has more than two.
    """
    upper = (torch.arange(2**16, dtype=torch.int32) - 2**15) << 16
    ends = torch.stack([upper.view(torch.float32), (upper | 0xFFFF).view(torch.float32)]).roll(2**15, dims=1)
    ends = torch.where(ends.isnan(), ends[0], ends)  # the cells of infinity, which no block contains
    first = _first_of_each(bits, is_signed, torch.device("cpu"))
    lowest, highest = torch.bucketize(ends, first, right=True).sort(dim=0).values
    assert int((highest - lowest).max()) <= 1, "more than two codes in one cell"
    first_of_next = torch.where(highest > lowest, first[lowest.clamp(max=len(first) - 1)], torch.inf)
    return lowest.to(torch.uint8).to(device), first_of_next.to(device)
