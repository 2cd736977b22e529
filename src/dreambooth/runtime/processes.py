"""One process or many that train together, behind one seam.

Randomness is counted and every example carries its weight in the update's loss, so a step can be cut anywhere: each process
takes its share of the examples, the gradients are summed (not averaged), and all processes make the same update.
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
    """The processes of one run, seen from one of them. Use as a context manager around everything that they do together.

    Every method but `share` is called by all processes in the same order. All but `share` raise RunError when another
    process has ended or does not answer.
    """

    @property
    def rank(self) -> int:
        """Which of the processes this is, from 0."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and speaks."""

    def device(self, name: str | None) -> torch.device:
        """Where this process calculates, when a person asks for the device `name`, or for none."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of `items` that is this process's, as `share_of` cuts them."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the sum over all processes into every gradient.

        One that is None counts as zeros; it stays None where no process has it.
        """

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a small tensor of the same shape in each; the argument is left as it is."""

    def gather(self, tensor_N: Tensor) -> Tensor:
        """The vectors of all processes, end to end in the order of their ranks; lengths may differ, number formats not."""

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one process at least: the same answer in all of them."""

    def wait(self) -> None:
        """Go on when all processes have come here. The main one may take hours to come, for example to write files."""

    def main_first(self) -> AbstractContextManager[None]:
        """The main process does the block, then the others do, for example to read what it wrote.

        When the main one fails the others do not begin. When any of them fails, all the others raise RunError.
        """

    def together(self) -> AbstractContextManager[None]:
        """When one process fails in the block, the others raise RunError at its end, so that no process waits forever.

        Inside, the processes must not meet, save in whole blocks of `main_first`: one that has failed does not come.
        """

    def __enter__(self) -> Processes: ...

    def __exit__(self, *exception: object) -> None: ...


def share_of(items: Sequence[T], *, rank: int, count: int) -> Sequence[T]:
    """The part of `items` for process `rank` of `count`.

    Parts are contiguous, end to end they are `items`, and their lengths differ by one at most. With fewer items than
    processes some parts are empty.
    """
    return items[len(items) * rank // count : len(items) * (rank + 1) // count]


@dataclass(frozen=True)
class OneProcess:
    """Stands where there are no others: it has everything, and nobody to wait for."""

    rank = 0
    count = 1
    is_main = True

    def device(self, name: str | None) -> torch.device:
        """Any that the machine has. Raises SettingsError when it has no such device."""
        return choose_device(name)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """All of them."""
        return items

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Nothing to add."""

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
        """Nobody else comes."""

    def main_first(self) -> AbstractContextManager[None]:
        """Nobody else follows."""
        return nullcontext()

    def together(self) -> AbstractContextManager[None]:
        """Nobody else has to know."""
        return nullcontext()

    def __enter__(self) -> OneProcess:
        """Nothing to open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""
