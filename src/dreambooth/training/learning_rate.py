"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from dreambooth.trainees.trainee import Trainee
from dreambooth.training.settings import OptimizerSettings

__all__ = ["LearningRates", "learning_rate_factor"]


def learning_rate_factor(step: int, settings: OptimizerSettings, total_steps: int) -> float:
    """The factor applied to the learning rate at `step` (1-based), in [0, 1].

    It rises linearly to 1 at the last warmup step, then stays constant, or decays linearly or along half a cosine and reaches
    zero just after the last step, so that every step changes the weights.
    """
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    done = (step - 1 - settings.warmup_steps) / (total_steps - settings.warmup_steps)
    if settings.learning_rate_schedule == "linear":
        return 1 - done
    if settings.learning_rate_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0


class LearningRates:
    """The learning rates of a trainee's groups."""

    def __init__(self, trainee: Trainee, settings: OptimizerSettings, *, total_steps: int) -> None:
        self._base = {group.name: group.learning_rate for group in trainee.groups}
        self._settings = settings
        self._total_steps = total_steps

    def at(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        factor = learning_rate_factor(step, self._settings, self._total_steps)
        return {name: rate * factor for name, rate in self._base.items()}
