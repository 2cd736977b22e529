"""How much memory nobody uses at the moment."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["free_memory_bytes"]

_LINUX_MEMORY = Path("/proc/meminfo")


def free_memory_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a CUDA device; for others the host memory that programs can still have, None where unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    if not _LINUX_MEMORY.exists():
        return None
    lines = (line.split() for line in _LINUX_MEMORY.read_text(encoding="ascii").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
