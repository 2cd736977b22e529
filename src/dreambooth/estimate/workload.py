"""What a run does, as far as its memory depends on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreambooth.data.size import Size
from dreambooth.estimate.traces import (
    OptimizerName,
    Sampling,
)
from dreambooth.memory.plan import MemoryPlan
from dreambooth.trainees.settings import TraineeSettings

__all__ = ["Workload"]


@dataclass(frozen=True)
class Workload:
    """What a run does, as far as memory depends on it."""

    size: Size
    """That of the training pictures."""
    num_examples: int
    """Photos and class images of one forward pass, as long as the memory plan does not cut it smaller."""
    gradient_accumulation: int
    trainee: TraineeSettings
    keeps_average: bool
    optimizer: OptimizerName
    class_images: Sampling | None
    """How class images are made; None when none are."""
    previews: Sampling | None
    """How preview pictures are made; None when none are."""
    num_processes: int = 1
    """Processes over which weights, gradients and means are spread when the plan shards them."""

    def num_passes(self, plan: MemoryPlan) -> int:
        """Forward passes of one step."""
        return math.ceil(self.num_examples * self.gradient_accumulation / (plan.micro_batch_size or self.num_examples))
