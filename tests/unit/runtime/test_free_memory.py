"""Free memory is what the system says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from dreambooth.runtime.free_memory import free_memory_bytes


def test_a_gpu_says_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (3, 7))
    assert free_memory_bytes(torch.device("cuda:1")) == 3
    assert asked == [torch.device("cuda:1")]


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_elsewhere_it_is_what_programs_can_still_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=20, free=1, available=12))
    assert free_memory_bytes(torch.device(name)) == 12


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux has this table")
def test_on_linux_it_is_the_kernels_estimate() -> None:
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    available = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    assert free_memory_bytes(torch.device("cpu")) == pytest.approx(available, rel=0.1)
