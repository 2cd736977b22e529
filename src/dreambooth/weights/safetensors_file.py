"""Files in the safetensors format, mapped by the library of that name."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.files import utf8_name

__all__ = ["LONGEST_HEADER", "read_safetensors"]

LONGEST_HEADER = 100_000_000  # bytes; the library refuses longer ones


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, mapped (touching one reads it), and the metadata.

    Raises ModelFileError when the file is truncated, its header is damaged, or it holds an element type torch has not.
    """
    try:
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            keys = list(file.keys())
            return {key: file.get_tensor(key) for key in keys}, dict(file.metadata() or {})
    except (SafetensorError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise _translated(path, error) from error


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
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, LONGEST_HEADER))
    if len(header) < length <= LONGEST_HEADER:
        return 8 + length
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header.decode()).items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
