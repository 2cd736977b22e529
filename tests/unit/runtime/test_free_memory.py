"""Free memory is what the system says, where it says it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dreambooth.runtime import free_memory
from dreambooth.runtime.free_memory import free_memory_bytes


def test_a_gpu_says_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (3, 7))
    assert free_memory_bytes(torch.device("cuda:1")) == 3
    assert asked == [torch.device("cuda:1")]


def test_linux_says_what_programs_can_still_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       20 kB\nMemFree:        1 kB\nMemAvailable:   12 kB\n", encoding="ascii")
    monkeypatch.setattr(free_memory, "_LINUX_MEMORY", table)
    assert free_memory_bytes(torch.device("cpu")) == 12 * 1024


def test_elsewhere_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "_LINUX_MEMORY", tmp_path / "missing")
    assert free_memory_bytes(torch.device("cpu")) is None
    (tmp_path / "missing").write_text("MemTotal: 20 kB\n", encoding="ascii")
    assert free_memory_bytes(torch.device("mps")) is None
