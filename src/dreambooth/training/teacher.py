"""The base model's predictions for class examples, computed in the step that uses them.

A trainee that leaves the base model's weights as they are can be detached for one forward pass, so the base model needs no
second copy, and its predictions no files (see `base_predictions` for trainees that change the weights).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import stack_texts
from dreambooth.diffusion.schedule import add_noise
from dreambooth.trainees.trainee import BaseModel, Trainee
from dreambooth.training.batches import Batch
from dreambooth.training.denoiser import Denoiser

__all__ = ["DetachedTeacher", "NoTeacher", "Teacher"]


class Teacher(Protocol):
    """Gives class examples another target than their noise."""

    def with_targets(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with the targets of their class examples."""


class NoTeacher:
    """Stands in for a teacher where the batches have their targets."""

    def with_targets(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches as they are."""
        return iter(batches)


@dataclass(frozen=True)
class DetachedTeacher:
    """The model in training, with its trainee detached."""

    denoiser: Denoiser
    trainee: Trainee
    base: BaseModel

    def with_targets(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with the base model's predictions as the targets of their class examples."""
        return map(self._with_targets, batches)

    def _with_targets(self, batch: Batch) -> Batch:
        rows = batch.prior_rows
        if not rows:
            return batch
        schedule = self.denoiser.components.family.schedule
        x_0, eps, t_B = (torch.stack([tensor[row] for row in rows]) for tensor in (batch.x_0, batch.eps, batch.t_B))
        text = stack_texts([batch.text[row] if isinstance(batch.text, Tensor) else batch.text.index(row) for row in rows])
        sizes_B6 = None if batch.sizes_B6 is None else torch.stack([batch.sizes_B6[row] for row in rows])
        with torch.no_grad(), self._detached():
            output = self.denoiser(add_noise(schedule, x_0, eps, t_B), t_B, text, sizes_B6)
        target = torch.zeros_like(batch.x_0)
        for row, predicted in zip(rows, output.to(target.dtype), strict=True):
            target[row] = predicted
        return replace(batch, prior_target=target)

    @contextmanager
    def _detached(self) -> Iterator[None]:
        self.trainee.detach(self.base)
        try:
            yield
        finally:
            self.trainee.attach()
