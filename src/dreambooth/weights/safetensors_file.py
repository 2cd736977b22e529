"""Files in the safetensors format, mapped by the library of that name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.files import utf8_name
from dreambooth.reading import parse_json, printable
from dreambooth.weights.mapped_tensors import contiguous_stride, map_tensors
from dreambooth.weights.pickles import StorageRecord, TensorRecord

__all__ = ["LONGEST_HEADER", "read_safetensors"]

_ELEMENT_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LONGEST_HEADER = 100_000_000  # bytes; the library refuses longer ones


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, mapped (touching one reads it), and the metadata, sorted by its keys.

    Some programs write numbers into the metadata, which the format does not allow; they are read as text.

    Raises ModelFileError when the file is truncated, its header is damaged, or it holds an element type torch has not.
    """
    try:
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            keys = list(file.keys())
            return {key: file.get_tensor(key) for key in keys}, dict(sorted((file.metadata() or {}).items()))
    except (SafetensorError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        header = _header(path)
        metadata = None if header is None else header.pop("__metadata__", None)
        if header is None or not isinstance(metadata, dict) or all(isinstance(value, str) for value in metadata.values()):
            raise _translated(path, error) from error
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in sorted(metadata.items())}
        return _mapped(path, header), texts


def _mapped(path: Path, header: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors by our own reading of the header. Raises ModelFileError when an entry is no description of one."""
    first = 8 + _raw_header(path)[0]
    records, places = {}, {}
    for name, entry in header.items():
        try:
            begin, end = entry["data_offsets"]
            size, dtype = tuple(entry["shape"]), _ELEMENT_TYPES[entry["dtype"]]
            places[name] = int(first + begin), int(end - begin)
            storage = StorageRecord(name, dtype, math.prod(size), 0)
        except (KeyError, TypeError, ValueError) as error:
            raise _translated(path, ValueError(f"the entry of {printable(name)}: {error!r}")) from error
        records[name] = TensorRecord(storage, dtype, 0, size, contiguous_stride(size))
    return map_tensors(path, records, places.__getitem__)


def _translated(path: Path, error: Exception) -> ModelFileError:
    size, needed = path.stat().st_size, _announced_size(path)
    if needed is not None and size < needed:
        return ModelFileError(
            f"{path}: a truncated .safetensors file: {size:,} of the {needed:,} bytes that its header declares",
            hint="Download or copy the file again.",
        )
    return ModelFileError(
        f"{path}: a damaged .safetensors file of {size:,} bytes: {error}", hint="Download or copy the file again."
    )


def _announced_size(path: Path) -> int | None:
    """Bytes that the whole file should have by its own header; the header's end when that is cut; None when unreadable."""
    length, raw = _raw_header(path)
    if len(raw) < length <= LONGEST_HEADER:
        return 8 + length
    try:
        ends = [entry["data_offsets"][1] for name, entry in (_header(path) or {}).items() if name != "__metadata__"]
        return 8 + length + max(ends) if ends else None
    except (TypeError, KeyError, IndexError):
        return None


def _header(path: Path) -> dict[str, Any] | None:
    """The header of the file; None when it is not a JSON object."""
    try:
        header = parse_json(_raw_header(path)[1].decode())
    except ValueError:
        return None
    return header if isinstance(header, dict) else None


def _raw_header(path: Path) -> tuple[int, bytes]:
    """Length of the header by the file's first bytes, and as much of it as there is."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return length, file.read(min(length, LONGEST_HEADER))
