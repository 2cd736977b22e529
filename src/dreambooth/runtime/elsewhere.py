"""Work that leaves nothing behind in this process."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

__all__ = ["in_another_process"]

Given = TypeVar("Given")
Result = TypeVar("Result")


def in_another_process(work: Callable[[Given], Result], given: Given) -> Result:
    """What `work` returns in a process of its own, after which all memory that it used on a GPU is free.

    `work` is a function of a module; what it is given and what it returns can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)) as pool:
        return pool.submit(work, given).result()
