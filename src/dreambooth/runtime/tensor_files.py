"""Writing tensors to .safetensors one at a time.

The library's own writer wants every tensor in memory at once, in its final type; a checkpoint of Stable Diffusion 1 with
its optimizer is 12 GB. Here each tensor is fetched, converted and written before the next one is looked at, so that the
peak is one tensor. The layout is that of the safetensors format: an 8-byte little-endian length, a JSON header, the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.files import atomic_file

__all__ = ["STORAGE_DTYPES", "write_tensors"]

STORAGE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Number formats that a person may ask for, by name."""

_FORMAT_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    unchanged: Collection[str] = (),
    metadata: Mapping[str, str] | None = None,
    after: Callable[[Tensor], None] | None = None,
) -> None:
    """Write named tensors to `path` atomically; floating ones are converted to `dtype` when it is given.

    Tensors may be on any device and of any layout; those named in `unchanged` keep their number format. `after` is called
    with each tensor when it is written, for example to let go of its memory. The header is padded with spaces so that the
    data is aligned to 8 bytes.
    """

    def stored(name: str, tensor: Tensor) -> torch.dtype:
        if dtype is None or name in unchanged or not tensor.is_floating_point():
            return tensor.dtype
        return dtype

    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * stored(name, tensor).itemsize
        entry = {
            "dtype": _FORMAT_NAMES[stored(name, tensor)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        header[name] = entry
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, tensor in tensors.items():
            plain = tensor.detach().to(device="cpu", dtype=stored(name, tensor)).contiguous()
            if plain.numel():
                file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
            if after is not None:
                after(tensor)
