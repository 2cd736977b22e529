"""One or several processes that train together, behind one protocol.

Randomness is counter-based and every example carries its weight in the update's loss, so a step can be divided anywhere:
each process takes its share of the examples, gradients are summed (not averaged), and all processes make the same update.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from dreambooth.runtime.device import choose_device

__all__ = ["OneProcess", "Processes", "share_of"]

T = TypeVar("T")


class Processes(Protocol):
    """The processes of one run, as seen from one of them. Use as a context manager around everything that they do together.

    All processes must call every method except `share` in the same order. All methods except `share` raise RunError if
    another process has ended or does not respond.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def count(self) -> int:
        """Number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints output."""

    def device(self, name: str | None) -> torch.device:
        """The device of this process, given the user's choice `name` (None: no choice)."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The share of `items` for this process, as divided by `share_of`."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes.

        A gradient that is None counts as zeros; it stays None if it is None in all processes.
        """

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a small tensor that has the same shape in each; the argument is not modified."""

    def gather(self, tensor_N: Tensor) -> Tensor:
        """The vectors of all processes, concatenated by rank; lengths may differ, dtypes may not."""

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in at least one process: the same answer in all of them."""

    def wait(self) -> None:
        """Block until all processes have called this. The main process may take hours, for example to write files."""

    def main_first(self) -> AbstractContextManager[None]:
        """The main process runs the block first, then the others do, for example to read what it wrote.

        If the main process fails, the others do not start. If any of them fails, all others raise RunError.
        """

    def together(self) -> AbstractContextManager[None]:
        """If one process fails in the block, the others raise RunError at its end, so that no process waits forever.

        Inside, processes must not wait for each other, except in whole `main_first` blocks: one that failed never arrives.
        """

    def __enter__(self) -> Processes: ...

    def __exit__(self, *exception: object) -> None: ...


def share_of(items: Sequence[T], *, rank: int, count: int) -> Sequence[T]:
    """The part of `items` for process `rank` of `count`.

    Parts are contiguous, their concatenation is `items`, and their lengths differ by at most one. With fewer items than
    processes, some parts are empty.
    """
    return items[len(items) * rank // count : len(items) * (rank + 1) // count]


@dataclass(frozen=True)
class OneProcess:
    """A single process: it has everything and waits for nobody."""

    rank = 0
    count = 1
    is_main = True

    def device(self, name: str | None) -> torch.device:
        """Any device of the machine. Raises SettingsError if it does not exist."""
        return choose_device(name)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """All items."""
        return items

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Does nothing: there are no other gradients."""

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def gather(self, tensor_N: Tensor) -> Tensor:
        """The vector itself."""
        return tensor_N

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def wait(self) -> None:
        """Returns at once."""

    def main_first(self) -> AbstractContextManager[None]:
        """Runs the block."""
        return nullcontext()

    def together(self) -> AbstractContextManager[None]:
        """Runs the block."""
        return nullcontext()

    def __enter__(self) -> OneProcess:
        """Does nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Does nothing."""
