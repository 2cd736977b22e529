"""Predicts the peak device memory of a run, by phase and component.

The estimate follows the planned run: the UNet and trained text encoders are on the device from the start in their training
dtype, frozen text encoders and the VAE visit it in float32 for what they encode and decode, and streamed blocks are in host
memory from the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache

import torch

from dreambooth.estimate.traces import (
    AverageUse,
    Sampling,
    StepTrace,
    Updates,
    average_use,
    decoding_bytes,
    encoding_bytes,
    gradient_bytes,
    largest_scratch_bytes,
    largest_streamed_bytes,
    part_bytes,
    sampling_bytes,
    state_bytes,
    step_use,
    streamed_away_bytes,
)
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.trainees.parts import trained_parts
from dreambooth.training.optimizer import works_by_tensor

__all__ = ["WORKSPACE", "MemoryEstimate", "MemoryUse", "Phase", "describe_estimate", "estimate_memory", "gib"]

WORKSPACE = 2**29
"""Bytes for memory not visible in any operation: library workspaces for matrices and convolutions, and fragmentation.

An estimate that has not been measured.
"""


_SMALLEST_SHOWN = 2**20


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use at one moment, by purpose."""

    weights: int = 0
    gradients: int = 0
    states: int = 0
    average: int = 0
    activations: int = 0
    scratch: int = 0
    """Temporary copies of the optimizer or the EMA update."""
    workspace: int = WORKSPACE
    """See WORKSPACE."""

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(size for _, size in self.components())

    def components(self) -> Iterator[tuple[str, int]]:
        """Name and bytes of each component."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True)
class Phase:
    """A phase of a run at its peak."""

    name: str
    use: MemoryUse


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory that a run needs on the device."""

    phases: tuple[Phase, ...]
    """In the order of the run."""

    @property
    def largest(self) -> Phase:
        """The phase with the peak."""
        return max(self.phases, key=lambda phase: phase.use.total)

    @property
    def peak(self) -> int:
        """Peak bytes over all phases."""
        return self.largest.use.total


@cache
def estimate_memory(family: Family, plan: MemoryPlan, workload: Workload) -> MemoryEstimate:
    """Predict the memory of a run of `workload` under `plan`. Needs no device and no weights; computed once for the same."""
    run = _PlannedRun(family, plan, workload)
    phases = (
        *([] if workload.class_images is None else [Phase("class images", run.class_images(workload.class_images))]),
        Phase("encoding", run.encoding()),
        Phase("training step", run.training_step()),
        *([] if workload.previews is None else [Phase("previews", run.previews(workload.previews))]),
    )
    return MemoryEstimate(phases)


@dataclass(frozen=True)
class _PlannedRun:
    family: Family
    plan: MemoryPlan
    workload: Workload

    @property
    def policy(self) -> PrecisionPolicy:
        return PrecisionPolicy(self.plan.precision, "cpu")

    @property
    def trained_weights(self) -> int:
        """Weights of the parts that learn, including frozen ones and the matrices of a LoRA."""
        dtype = self._part_dtype
        whole = sum(part_bytes(self.family, name, dtype) for name in self._learning)
        beside = self._gradients if self.workload.trainee.keeps_base else 0  # as many numbers
        return whole + beside - (streamed_away_bytes(self.family, dtype) if self.plan.stream_blocks else 0)

    @property
    def _weights(self) -> int:
        """Weights on the device of one process while it trains."""
        return self._spread(self.trained_weights) + self._kept_text_encoders

    @property
    def _weights_before(self) -> int:
        """The same before training, when nothing is sharded yet."""
        return self.trained_weights + self._kept_text_encoders

    @property
    def _away_at_rest(self) -> int:
        """Bytes of the streamed block that is on the device only while the denoiser runs."""
        return largest_streamed_bytes(self.family, self._part_dtype) if self.plan.stream_blocks else 0

    @property
    def _autoencoder(self) -> int:
        """The visiting autoencoder, in float32."""
        return part_bytes(self.family, self.family.autoencoder, torch.float32)

    @property
    def _learning(self) -> tuple[str, ...]:
        return trained_parts(self.workload.trainee, self.family)

    @property
    def _frozen_text_encoders(self) -> list[str]:
        return [name for name in self.family.text_encoders if name not in self._learning]

    @property
    def _learns_text(self) -> bool:
        return len(self._frozen_text_encoders) < len(self.family.text_encoders)

    @property
    def _kept_text_encoders(self) -> int:
        """Frozen text encoders beside one that learns, which encode in every step."""
        names = self._frozen_text_encoders if self._learns_text else []
        return sum(part_bytes(self.family, name, self._part_dtype) for name in names)

    @property
    def _visiting_text_encoders(self) -> int:
        """Text encoders that are all frozen, and leave the device before training."""
        names = [] if self._learns_text else self._frozen_text_encoders
        return sum(part_bytes(self.family, name, torch.float32) for name in names)

    @property
    def _part_dtype(self) -> torch.dtype:
        return self.policy.dtype_of_parts(keeps_base=self.workload.trainee.keeps_base)

    @property
    def _gradients(self) -> int:
        return gradient_bytes(self.family, self.workload.trainee, self.policy.weight_dtype)

    @property
    def states(self) -> int:
        if self.plan.states_on_host and self.workload.optimizer == "adamw":
            return 0
        return state_bytes(
            self.family,
            self.workload.trainee,
            optimizer=self.workload.optimizer,
            states=self.plan.optimizer_states,
        )

    @property
    def average(self) -> AverageUse:
        if not self.workload.keeps_average:
            return AverageUse(0, 0, 0)
        return average_use(self.family, self.workload.trainee, self.policy.weight_dtype)

    def _spread(self, size: int) -> int:
        """The share of one process. The block that is currently gathered is small and ignored."""
        return math.ceil(size / self.workload.num_processes) if self.plan.shard else size

    def class_images(self, sampling: Sampling) -> MemoryUse:
        """The original model; frozen text encoders are there while prompts are encoded, and the autoencoder all the time."""
        moments = (
            MemoryUse(weights=self._weights_before - self._away_at_rest + self._autoencoder + self._visiting_text_encoders),
            MemoryUse(
                weights=self._weights_before + self._autoencoder, activations=self._sampling_bytes(sampling, is_learning=False)
            ),
            MemoryUse(
                weights=self._weights_before - self._away_at_rest + self._autoencoder,
                activations=decoding_bytes(self.family, self.workload.size),
            ),
        )
        return max(moments, key=lambda use: use.total)

    def encoding(self) -> MemoryUse:
        """Photos through the VAE, one at a time, then captions through the text encoders."""
        moments = (
            MemoryUse(
                weights=self._weights_before - self._away_at_rest + self._autoencoder,
                activations=encoding_bytes(self.family, self.workload.size),
            ),
            MemoryUse(weights=self._weights_before - self._away_at_rest + self._visiting_text_encoders),
        )
        return max(moments, key=lambda use: use.total)

    def training_step(self) -> MemoryUse:
        """The peak of a step: forward and backward pass, optimizer, EMA update."""
        plan, workload, average = self.plan, self.workload, self.average
        step = step_use(
            StepTrace(
                family=self.family,
                precision=plan.precision,
                checkpointing=plan.gradient_checkpointing,
                size=workload.size,
                num_examples=min(plan.micro_batch_size or workload.num_examples, workload.num_examples),
                trainee=workload.trainee,
                is_accumulating=workload.num_passes(plan) > 1,
                used_up_by=self._updates if plan.step_in_backward else None,
            )
        )
        kept = MemoryUse(weights=self._weights, states=self._spread(self.states), average=self._spread(average.kept))
        moments = [
            replace(kept, gradients=self._spread(step.gradients), activations=step.activations, scratch=step.scratch),
            replace(kept, scratch=average.to_update),
        ]
        if not plan.step_in_backward:
            # The fused AdamW of torch works in place.
            scratch = self._largest_scratch() if works_by_tensor(workload.optimizer, plan) else 0
            moments.append(replace(kept, gradients=self._spread(self._gradients), scratch=scratch))
        return max(moments, key=lambda use: use.total)

    def previews(self, sampling: Sampling) -> MemoryUse:
        """One image at a time, while everything that training needs between two steps stays on the device.

        Frozen text encoders are on the device while prompts are encoded, and the VAE while images are decoded.
        """
        average = self.average
        kept = MemoryUse(states=self._spread(self.states), average=self._spread(average.kept), scratch=average.in_place)
        moments = (
            replace(kept, weights=self._weights - self._away_at_rest + self._visiting_text_encoders),
            replace(kept, weights=self._weights, activations=self._sampling_bytes(sampling, is_learning=True)),
            replace(
                kept,
                weights=self._weights - self._away_at_rest + self._autoencoder,
                activations=decoding_bytes(self.family, self.workload.preview_size),
            ),
        )
        return max(moments, key=lambda use: use.total)

    def _sampling_bytes(self, sampling: Sampling, *, is_learning: bool) -> int:
        policy = self.policy
        return sampling_bytes(
            self.family,
            sampling,
            size=self.workload.preview_size if is_learning else self.workload.size,
            weight_dtype=self._part_dtype,
            compute_dtype=policy.compute_dtype,
            is_learning=is_learning and not self.workload.trainee.keeps_base,
        )

    @property
    def _updates(self) -> Updates:
        return Updates(self.workload.optimizer, self.plan.optimizer_states, is_streamed=self.plan.stream_blocks)

    def _largest_scratch(self) -> int:
        return largest_scratch_bytes(self.family, self.workload.trainee, self.policy.weight_dtype, self._updates)


def describe_estimate(estimate: MemoryEstimate, free: int | None) -> str:
    """One line: the predicted peak by component against the free memory (None if unknown)."""
    largest = estimate.largest
    parts = ", ".join(f"{name} {gib(size)}" for name, size in largest.use.components() if size >= _SMALLEST_SHOWN)
    of = "" if free is None else f" of {gib(free)} GiB free"
    return f"Predicted peak memory: {gib(estimate.peak)}{of or ' GiB'}, in the phase '{largest.name}' ({parts})"


def gib(size: int) -> str:
    """Bytes as a number of GiB with two digits."""
    return f"{size / 2**30:.2f}"
