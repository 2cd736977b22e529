"""Chooses the device, and measures how much memory it has used."""

from __future__ import annotations

import sys

import torch

from dreambooth.display import counted
from dreambooth.errors import SettingsError

__all__ = ["choose_device", "describe_device", "is_out_of_memory", "peak_memory_bytes", "release_memory"]

# torch raises a plain RuntimeError when the CPU or MPS runs out of memory
_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "out of memory")


def choose_device(name: str | None) -> torch.device:
    """The device called `name`; if None, the first GPU, or the CPU if there is none.

    Raises SettingsError if the name is not a device, or the device does not exist.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device is {name!r}: expected cpu, cuda, cuda:1 or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(device.type, 0)
    if (device.index or 0) >= count:
        raise SettingsError(
            f"device is {name!r}: {_missing(device.type, count)}",
            hint="Omit --device to use the first GPU, or the CPU if there is none.",
        )
    return device


def _missing(kind: str, count: int) -> str:
    name = {"cuda": "CUDA GPU", "mps": "MPS device", "cpu": "CPU device"}.get(kind, f"{kind} device")
    return f"no {name} was found" if count == 0 else f"only {count} {name}{'' if count == 1 else 's'} found"


def describe_device(device: torch.device) -> str:
    """The device in words, including its memory if it has its own."""
    if device.type != "cuda":
        return f"{device.type} ({counted(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else device.type
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory allocated on `device`; for the CPU, the peak resident size of the process, or 0 where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device or the machine is out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Return unused cached memory to the device, for use after large parts were moved away."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
