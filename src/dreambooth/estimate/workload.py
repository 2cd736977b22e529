"""The properties of a run that determine its memory."""

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
    """The properties of a run that determine its memory."""

    size: Size
    """Size of the training images; with buckets the largest of them that occurs."""
    num_examples: int
    """Photos and class images per forward pass, unless the memory plan splits it further."""
    gradient_accumulation: int
    trainee: TraineeSettings
    keeps_average: bool
    optimizer: OptimizerName
    class_images: Sampling | None
    """How class images are sampled; None if there are none."""
    previews: Sampling | None
    """How preview images are sampled; None if there are none."""
    num_processes: int = 1
    """Number of processes over which the plan may shard weights, gradients and optimizer states."""
    square: Size | None = None
    """Size of preview images, if the training images are not squares."""
    has_buckets: bool = False
    """Whether training images have several sizes, so that the examples of a pass may need one pass for each size."""
    is_compiled: bool = False
    """Whether the denoiser's blocks, or all of it, are compiled."""

    @property
    def preview_size(self) -> Size:
        """Size of preview images."""
        return self.square or self.size

    @property
    def needs_blocks_in_place(self) -> tuple[str, ...]:
        """The settings, by name, with which the denoiser's weights cannot leave the device during a pass."""
        kept = {"ema_decay": self.keeps_average, "compile": self.is_compiled, "dora": self.trainee.dora}
        return tuple(name for name, is_so in kept.items() if is_so)

    def num_passes(self, plan: MemoryPlan) -> int:
        """Forward passes of one step; with buckets, what must be expected of a step."""
        num = self.num_examples * self.gradient_accumulation
        passes = math.ceil(num / (plan.micro_batch_size or self.num_examples))
        return min(num, passes + 1) if self.has_buckets else passes
