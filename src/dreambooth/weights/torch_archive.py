"""Writing the zip archive of torch.save, tensor by tensor, with only the entries that every program accepts.

torch.save of version 2.11 and later adds entries (`.format_version`, `.storage_alignment` and others) that
stable-diffusion-webui takes for an attack: it accepts one folder with `data.pkl`, `version` and `data/N`, and nothing else.
torch.save also wants all tensors in memory at once.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from dreambooth.files import atomic_file
from dreambooth.runtime.tensor_files import converted
from dreambooth.weights.mapped_tensors import contiguous_stride

__all__ = ["write_torch_archive"]

_FOLDER = "archive"  # torch's own name for it when it does not know the file's
_ALIGNMENT = 64  # bytes, as in torch.save, so that a reader may map the file
_LARGE = 2**31 - 2**24  # bytes from which an entry needs 64-bit sizes
_HEADER_BYTES, _LARGE_HEADER_BYTES = 30 + 4, 20  # of an entry, with the beginning of the padding; more for 64-bit sizes
_PADDING_MARK = b"FB"  # the extra field with which torch pads
_STORAGES: Mapping[torch.dtype, Any] = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage,
    torch.int8: torch.CharStorage,
    torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
}


@dataclass(frozen=True)
class _Storage:
    """The numbers of one tensor, which stand in the entry `data/key`."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class _Description:
    """What the pickle says of a tensor."""

    storage: _Storage
    size: tuple[int, ...]


class _Pickler(pickle.Pickler):
    """Writes descriptions as the tensors that they describe."""

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        if value.dtype in _STORAGES:
            return "storage", _STORAGES[value.dtype], value.key, "cpu", value.numel
        return "storage", torch.UntypedStorage, value.key, "cpu", value.numel * value.dtype.itemsize

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, _Description):
            return NotImplemented
        storage = value.storage
        hooks: OrderedDict[str, Any] = OrderedDict()
        arguments = (storage, 0, value.size, contiguous_stride(value.size), False, hooks)
        if storage.dtype in _STORAGES:
            return torch._utils._rebuild_tensor_v2, arguments
        return torch._utils._rebuild_tensor_v3, (*arguments, storage.dtype)


def write_torch_archive(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    beside: Mapping[str, Any],
    under: str | None = "state_dict",
    dtype: torch.dtype | None = None,
    unchanged: Collection[str] = (),
    after: Callable[[Tensor], None] | None = None,
) -> None:
    """Write {**beside, under: tensors} so that torch.load reads it, atomically; `beside` holds plain values.

    Without `under` the tensors stand beside these values.

    Floating-point tensors are converted to `dtype` when it is given, except those named in `unchanged`. Each tensor is
    converted and written before the next, so that the peak is one tensor; `after` is called with each when it is written.
    The same contents always give the same bytes. Raises ModelFileError when a number is beyond the range of `dtype`.
    """
    descriptions = {}
    for index, (name, tensor) in enumerate(tensors.items()):
        kept = dtype is None or name in unchanged or not tensor.is_floating_point()
        storage = _Storage(str(index), tensor.dtype if kept or dtype is None else dtype, tensor.numel())
        descriptions[name] = _Description(storage, tuple(tensor.shape))
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump({**beside, **(descriptions if under is None else {under: descriptions})})
    with atomic_file(path) as partial, partial.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "data.pkl", pickled.getbuffer())
        for name, tensor in tensors.items():
            storage = descriptions[name].storage
            plain = converted(path, name, tensor, storage.dtype)
            numbers = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")
            _add(archive, file, f"data/{storage.key}", numbers)
            if after is not None:
                after(tensor)
        _add(archive, file, "version", memoryview(b"3\n"))


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: memoryview) -> None:
    """An uncompressed entry whose content begins at a multiple of the alignment."""
    entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")
    entry.file_size = content.nbytes
    is_large = content.nbytes >= _LARGE
    header = _HEADER_BYTES + len(entry.filename) + (_LARGE_HEADER_BYTES if is_large else 0)
    padding = -(file.tell() + header) % _ALIGNMENT
    entry.extra = _PADDING_MARK + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(entry, "w", force_zip64=is_large) as stream:
        stream.write(content)
