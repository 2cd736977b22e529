"""Scaling the loss so that small float16 gradients do not vanish."""

from __future__ import annotations

__all__ = ["FixedLossScale", "LossScale"]

_GROWTH_INTERVAL = 2000
_SMALLEST = 1.0


class LossScale:
    """A power of two that is halved when gradients overflow and doubled after 2000 steps without overflow.

    (Micikevicius et al., arXiv 1710.03740, section 3.2.) A step that overflows is computed again with the smaller scale, so
    every step is exactly one update; counter-based randomness gives the retry the same noise.
    """

    can_overflow = True

    def __init__(self) -> None:
        self.value = 2.0**16
        self._good_steps = 0

    def overflowed(self) -> bool:
        """Halve the scale; returns whether the step should be retried."""
        self._good_steps = 0
        self.value /= 2
        return self.value >= _SMALLEST

    def succeeded(self) -> None:
        """Count a step without overflow."""
        self._good_steps += 1
        if self._good_steps == _GROWTH_INTERVAL:
            self._good_steps = 0
            self.value *= 2

    def state(self) -> dict[str, float]:
        """State to save in a checkpoint."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state(self, state: dict[str, float]) -> None:
        """Load what `state` returned."""
        self.value, self._good_steps = float(state["value"]), int(state["good_steps"])


class FixedLossScale:
    """No scaling, for precisions in which gradients do not vanish: an overflow is an error."""

    can_overflow = False
    value = 1.0

    def overflowed(self) -> bool:
        """Returns False: a smaller scale would not help."""
        return False

    def succeeded(self) -> None:
        """Does nothing."""

    def state(self) -> dict[str, float]:
        """Empty: there is nothing to save."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Does nothing."""
