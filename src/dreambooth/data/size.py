"""The size of a picture."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Size"]


@dataclass(frozen=True)
class Size:
    """Height and width in pixels."""

    height: int
    width: int

    @classmethod
    def square(cls, side: int) -> Size:
        """A size of equal sides."""
        return cls(side, side)

    @property
    def shorter_side(self) -> int:
        """The smaller of both."""
        return min(self.height, self.width)

    def __str__(self) -> str:
        """The side of a square, else height x width."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
