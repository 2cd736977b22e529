"""What is due at a step, computed identically in all processes: if they disagreed, one would wait forever."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Due", "Intervals"]


@dataclass(frozen=True)
class Due:
    """The work that is due after a step, or before the first one."""

    validates: bool = False
    scores: bool = False
    previews: bool = False
    logs_images: bool = False
    writes_model: bool = False
    """A model of this step, whether or not it is the last one."""
    writes_checkpoint: bool = False
    is_last: bool = False

    @property
    def looks(self) -> bool:
        """Whether anything is measured or sampled."""
        return self.validates or self.scores or self.previews or self.logs_images

    @property
    def looks_together(self) -> bool:
        """Whether anything is measured or sampled that needs all processes when the weights are sharded."""
        return self.validates or self.previews or self.logs_images


@dataclass(frozen=True)
class Intervals:
    """Intervals in steps; 0 means never."""

    num_steps: int
    """The last step."""
    validation: int
    scores: int
    previews: int
    image_log: int
    models: int
    checkpoints: int

    @property
    def num_models(self) -> int:
        """How many steps write a model, if the run is not ended early."""
        both = math.lcm(self.scores, self.models)
        num = sum(self.num_steps // interval for interval in (self.scores, self.models) if interval > 0)
        num -= self.num_steps // both if both > 0 else 0  # those that are due for both reasons
        return num + (not (_is_multiple(self.num_steps, self.scores) or _is_multiple(self.num_steps, self.models)))

    def before(self) -> Due:
        """What is due before the first step, as a baseline for later results."""
        return Due(validates=self.validation > 0, scores=self.scores > 0, previews=self.previews > 0)

    def after(self, step: int, *, ends: bool = False) -> Due:
        """What is due after a step; `ends` marks an early last step."""
        is_last = ends or step == self.num_steps
        scores = _is_multiple(step, self.scores)
        return Due(
            validates=_is_multiple(step, self.validation),
            scores=scores,
            previews=_is_multiple(step, self.previews),
            logs_images=_is_multiple(step, self.image_log),
            writes_model=is_last or scores or _is_multiple(step, self.models),
            writes_checkpoint=is_last or _is_multiple(step, self.checkpoints),
            is_last=is_last,
        )


def _is_multiple(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
