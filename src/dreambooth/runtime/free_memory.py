"""Measures free memory."""

from __future__ import annotations

import psutil
import torch

__all__ = ["free_memory_bytes"]


def free_memory_bytes(device: torch.device) -> int:
    """Bytes that are free on a CUDA device; for other devices, the host memory available to programs."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return int(psutil.virtual_memory().available)
