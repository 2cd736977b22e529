"""Releases the memory of mapped files while their tensors are read one after another.

A tensor of a file is a view of the mapped file: reading it makes its pages resident, and they would stay resident until the
process ends, in addition to the copy made of them. The model would be in memory twice.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
from pathlib import Path

from torch import Tensor

__all__ = ["MappedPages"]

_MADV_DONTNEED = 4  # Linux: drop these pages of this process; the file is read again when they are accessed


class MappedPages:
    """The process's private file mappings at the time of creation; none where the system does not list them (not Linux)."""

    def __init__(self) -> None:
        try:
            lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        ranges = []
        for line in lines:
            addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
            if inode != "0" and permissions.endswith("p"):
                first, _, end = addresses.partition("-")
                ranges.append((int(first, 16), int(end, 16)))
        self._ranges = sorted(ranges)
        self._madvise = ctypes.CDLL(None).madvise if ranges else None

    def release(self, tensor: Tensor) -> None:
        """Drop the whole pages of a tensor that existed at creation and was never written to.

        Memory that does not belong to a file is left alone, because dropping its pages would destroy the data.
        """
        if self._madvise is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
            return
        begin = tensor.data_ptr()
        end = begin + tensor.numel() * tensor.itemsize
        index = bisect.bisect_right(self._ranges, (begin, 2**64)) - 1
        if index < 0 or end > self._ranges[index][1]:
            return
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), ctypes.c_int(_MADV_DONTNEED))
