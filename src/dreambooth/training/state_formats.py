"""Storage formats of optimizer states: float32, or blocks of 8-bit or 4-bit codes with one scale per block.

The codes are those of Dettmers et al., arXiv 2110.02861, section 2, as implemented in torchao.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from dreambooth.errors import SettingsError
from dreambooth.memory.settings import StateFormat

__all__ = ["BlockFormat", "Float32Format", "KeptFormat", "check_state_format", "format_for"]

_BLOCK_SIZES = {8: 256, 4: 128}  # as in torchao
_SMALLEST_CODED = 4096  # smaller tensors, such as those of a norm, save too little to justify the loss of precision


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
        return _torchao().dequant_with_qmap(codes, _code_values(self.bits, is_signed, device), scale)  # type: ignore[no-any-return]

    def encode(self, kept: Mapping[str, Tensor], start: int, stop: int, x_N: Tensor, *, is_signed: bool) -> None:
        """Store the nearest codes, with one scale per block."""
        values = _code_values(self.bits, is_signed, x_N.device)
        scaled_N, scale = _torchao().scale_tensor(x_N, self.block_size)
        quantize = _torchao().quantize_8bit_with_qmap if self.bits == 8 else _torchao().quantize_4bit_with_qmap
        codes = quantize(scaled_N, values)
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


def check_state_format(name: StateFormat) -> None:
    """Raise SettingsError if the format needs torchao and it is not installed."""
    if name != "float32" and importlib.util.find_spec("torchao") is None:
        raise SettingsError(
            f"optimizer_states is {name}, which needs torchao, and it is not installed",
            hint='Type: pip install "torchao>=0.18", or use --optimizer-states float32.',
        )


@cache
def _torchao() -> ModuleType:
    """The quantizer of torchao; importing it prints messages about kernels that are not available."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torchao.optim.quant_utils")
    finally:
        logging.disable(before)


@cache
def _code_values(bits: int, is_signed: bool, device: torch.device) -> Tensor:
    """The value of each code, ascending, in [-1, 1]; unsigned 4-bit values begin above zero, as in torchao."""
    if bits == 8:
        values = _torchao().create_dynamic_map(is_signed)
    else:
        values = _torchao().create_dynamic_map(True, 3, 4) if is_signed else torch.linspace(0, 1, 17)[1:].tolist()
    return torch.tensor(values, dtype=torch.float32, device=device)
