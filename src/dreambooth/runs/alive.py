"""Whether a process still runs, told from a later one that has its number by the time of its start."""

from __future__ import annotations

import psutil

__all__ = ["is_alive", "start_time"]


def is_alive(number: int, started: float) -> bool:
    """Whether the process of that number, started at that time, still runs; one that only waits to be reaped does not."""
    try:
        process = psutil.Process(number)
        return bool(abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def start_time(number: int) -> float:
    """When the process of that number was started, in seconds since 1970; 0 when it is gone."""
    try:
        return float(psutil.Process(number).create_time())
    except psutil.NoSuchProcess:
        return 0.0
