"""A display that shows nothing, for processes beside the one that speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dreambooth.display import TrainingStatus

__all__ = ["SilentDisplay"]


class SilentDisplay:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Nothing."""

    @contextmanager
    def progress(self, description: str, total: int, unit: str, *, parts: int = 1) -> Iterator[Callable[[int], None]]:
        """Nothing."""
        yield lambda count: None

    @contextmanager
    def training(self, *, first_step: int, last_step: int) -> Iterator[Callable[[TrainingStatus], None]]:
        """Nothing."""
        yield lambda status: None

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """Nothing."""
