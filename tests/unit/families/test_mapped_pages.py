from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dreambooth.families.mapped_pages import MappedPages

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell which memory is a file's")

NUM_BYTES = 32 * 2**20


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("RssFile:"))
    return int(line.split()[1]) * 1024


@linux
def test_pages_of_a_file_leave_memory_and_come_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(256)) * (NUM_BYTES // 256))
    mapped = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=NUM_BYTES)
    tensor = torch.empty(0, dtype=torch.uint8).set_(mapped[3:-5])  # neither end on a page
    total = tensor.sum()
    before = resident_file_bytes()
    MappedPages().release(tensor)
    assert before - resident_file_bytes() > 0.9 * NUM_BYTES
    assert tensor.sum() == total


def test_memory_that_is_no_file_keeps_its_content() -> None:
    tensor = torch.ones(NUM_BYTES, dtype=torch.uint8)
    MappedPages().release(tensor)
    assert tensor.min() == 1


def test_a_tensor_smaller_than_a_page_is_left_alone() -> None:
    tensor = torch.ones(3)
    MappedPages().release(tensor)
    assert tensor.tolist() == [1, 1, 1]
