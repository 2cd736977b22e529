"""Writes tensors to .safetensors one at a time.

The library's own writer needs every tensor in memory at once, in its final dtype; a checkpoint of Stable Diffusion 1 with
optimizer states is 12 GB. Here each tensor is fetched, converted and written before the next one is loaded, so that the peak
is one tensor. The layout is that of the safetensors format: an 8-byte little-endian length, a JSON header, the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Container, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.files import atomic_file

__all__ = ["CONTENT_HASH", "KOHYA_HASH", "STORAGE_DTYPES", "converted", "file_digest", "range_problem", "write_tensors"]

STORAGE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Dtypes that users can choose, by name."""

CONTENT_HASH = "modelspec.hash_sha256"
"""Metadata key of the SHA-256 of everything after a file's header, as Stability AI's ModelSpec defines it."""

KOHYA_HASH = "sshs_model_hash"
"""Metadata key of the same hash in a LoRA, as kohya's programs define it: without the leading 0x."""

_HASH_STARTS = {CONTENT_HASH: "0x", KOHYA_HASH: ""}

_FORMAT_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BLOCK = 8 << 20  # bytes
_NARROW = (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)  # formats of a smaller range than the others


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    unchanged: Collection[str] = (),
    metadata: Mapping[str, str] | None = None,
    after: Callable[[Tensor], None] | None = None,
) -> str:
    """Write named tensors to `path` atomically; floating-point tensors are converted to `dtype` if given.

    Tensors may be on any device and have any memory layout; those named in `unchanged` keep their dtype. `after` is called
    with each tensor once it is written, for example to release its memory. The header is padded with spaces to align the
    data to 8 bytes. If the metadata have the key `CONTENT_HASH`, the hash is filled in, whatever its value.

    Returns the SHA-256 of the file, in hex; with `CONTENT_HASH`, which is filled in at the end, that of the content alone.
    Raises ModelFileError as `converted` does.
    """

    def stored(name: str, tensor: Tensor) -> torch.dtype:
        if dtype is None or name in unchanged or not tensor.is_floating_point():
            return tensor.dtype
        return dtype

    # The library refuses text that is not UTF-8, such as a title that is the name of a folder.
    texts = {name: text.encode(errors="replace").decode() for name, text in (metadata or {}).items()}
    is_hashed = not _HASH_STARTS.keys().isdisjoint(texts)
    texts |= _hashes(texts, hashlib.sha256())
    header: dict[str, object] = {"__metadata__": texts} if texts else {}
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
    text, content = _header_text(header), hashlib.sha256()
    if not is_hashed:
        content.update(len(text).to_bytes(8, "little") + text)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            plain = converted(path, name, tensor, stored(name, tensor))
            if plain.numel():
                numbers = plain.reshape(-1).view(torch.uint8).numpy().data
                file.write(numbers)
                content.update(numbers)
            if after is not None:
                after(tensor)
        if is_hashed:  # every hash has the same length, so the header keeps its own
            texts |= _hashes(texts, content)
            file.seek(8)
            file.write(_header_text(header))
    return content.hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex; 1.1 s of processor time for each GB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _header_text(header: Mapping[str, object]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _hashes(keys: Container[str], content: hashlib._Hash) -> dict[str, str]:
    return {key: f"{start}{content.hexdigest()}" for key, start in _HASH_STARTS.items() if key in keys}


def converted(path: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as it is written into the file at `path`: on the CPU, contiguous, in `dtype`.

    Raises ModelFileError when a finite number is beyond the range of `dtype`: it would become infinite, and the model useless.
    """
    plain = tensor.detach().to(device="cpu")
    if (problem := range_problem(name, plain, dtype)) is not None:
        raise ModelFileError(
            f"{path}: not written: {problem}",
            hint="Write the model in bfloat16 or float32 instead: convert takes --dtype, training takes --model-dtype.",
        )
    return plain.to(dtype=dtype).contiguous()


def range_problem(name: str, tensor: Tensor, dtype: torch.dtype) -> str | None:
    """A sentence when a finite number of the tensor is beyond the range of `dtype`; None when all fit, or all have."""
    if dtype not in _NARROW or tensor.dtype in _NARROW or not tensor.numel():
        return None
    largest = max(abs(float(extreme)) for extreme in torch.aminmax(tensor))
    if not torch.finfo(dtype).max < largest < float("inf"):
        return None
    kind = str(dtype).removeprefix("torch.")
    return f"{name} holds the value {largest:.4g}, and {kind} ends at {torch.finfo(dtype).max:,.0f}"
