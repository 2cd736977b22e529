"""Tensors as views of a mapped file, made from the descriptions in a pickle after checking every number of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.files import utf8_name
from dreambooth.reading import printable
from dreambooth.weights.pickles import TensorRecord

__all__ = ["Locate", "contiguous_stride", "map_tensors"]

Locate = Callable[[str], tuple[int, int]]  # a storage's key to its (first byte, number of bytes); KeyError when there is none

_MOST_AXES = 16
_MOST = 2**63
_MOST_ELEMENTS = 2**40  # an expanded tensor may repeat elements of its storage, but not so often that counting overflows


def map_tensors(path: Path, records: Mapping[str, TensorRecord], locate: Locate) -> dict[str, Tensor]:
    """A view of the file for each record; only what is touched later is read.

    The mapping is private: writing into a tensor changes the memory, not the file. Raises ModelFileError, naming every
    tensor that has no storage or does not lie inside it.
    """
    with utf8_name(path) as readable:
        mapped = torch.UntypedStorage.from_file(readable, shared=False, nbytes=path.stat().st_size)
    storages: dict[str, torch.UntypedStorage] = {}
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, record in records.items():
        key = record.storage.key
        try:
            if key not in storages:
                start, length = locate(key)
                storage = mapped[start : start + length]
                # Old files put numbers at any byte; those are copied, as not every processor reads them in place.
                storages[key] = storage.clone() if start % record.dtype.itemsize else storage
            _check(record, storages[key].nbytes())
            tensors[name] = torch.empty(0, dtype=record.dtype).set_(storages[key], _first(record), record.size, record.stride)
        except KeyError:
            problems.append(f"{path}: '{printable(name)}' needs the storage '{printable(key)}', which is missing")
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:
            problems.append(f"{path}: '{printable(name)}' lies outside its storage: {printable(str(error))}")
    if problems:
        raise ModelFileError(problems, hint="Download or copy the file again and compare its size with the source.")
    return tensors


def contiguous_stride(size: Sequence[int]) -> tuple[int, ...]:
    """The stride, in elements, of a tensor of this size whose elements follow each other."""
    strides, step = [], 1
    for length in reversed(size):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def _first(record: TensorRecord) -> int:
    return int(record.storage.start) + int(record.offset)


def _check(record: TensorRecord, num_bytes: int) -> None:
    """Raise ValueError unless every element of the tensor lies inside a storage of `num_bytes` bytes."""
    storage, size, stride = record.storage, record.size, record.stride
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        raise ValueError("its size and stride are not two tuples of one length")
    if len(size) > _MOST_AXES:
        raise ValueError(f"it has {len(size):,} axes")
    numbers = (storage.numel, storage.start, record.offset, *size, *stride)
    if any(type(number) is not int or not 0 <= number < _MOST for number in numbers):  # unchecked, so they are not shown
        raise ValueError("its size, stride and offset are not all whole numbers from 0 up")
    if storage.numel * storage.dtype.itemsize > num_bytes:
        raise ValueError(f"{storage.numel:,} elements of {storage.dtype} are declared, but there are only {num_bytes:,} bytes")
    if 0 in size:
        return
    last = _first(record) + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    elements = num_bytes // record.dtype.itemsize
    if last >= elements or math.prod(size) > _MOST_ELEMENTS:
        raise ValueError(f"size {size}, stride {stride}, offset {_first(record)} reach element {last:,} of {elements:,}")
