"""From a built model to one that can train: placing its parts, compiling them, and the state before the first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.memory.plan import MemoryPlan
from dreambooth.memory.recompute import recompute_activations
from dreambooth.memory.streaming import StreamedBlocks
from dreambooth.runtime.compilation import compile_modules
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.runtime.processes import Processes
from dreambooth.runtime.shards import shard
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.parts import trained_parts
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loop import TrainingState
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.optimizer import make_optimizer, works_by_tensor
from dreambooth.training.settings import LoopSettings, OptimizerSettings
from dreambooth.training.tensorwise import Tensorwise
from dreambooth.training.weight_average import NoAverage, WeightAverage

__all__ = ["Placed", "TrainingSetup", "assemble", "dtypes_for_training", "place_for_training"]


@dataclass(frozen=True)
class TrainingSetup:
    """What learns, how, for how long, and in which memory and arithmetic."""

    trainee: TraineeSettings
    optimizer: OptimizerSettings
    loop: LoopSettings
    plan: MemoryPlan
    policy: PrecisionPolicy


@dataclass(frozen=True)
class Placed:
    """A model whose denoiser is on the training device in its training dtype, with its text encoders if one of them learns."""

    components: Components
    learning: tuple[str, ...]
    """Names of the parts that learn."""
    streamed: StreamedBlocks
    """The denoiser's blocks that are moved to the device one at a time; none in most plans."""


def dtypes_for_training(family: Family, setup: TrainingSetup) -> dict[str, torch.dtype]:
    """The parts that training needs in its own dtype: the denoiser, and all text encoders if one of them learns.

    Built in it, a large denoiser is never in main memory in float32.
    """
    learns_text = any(name in trained_parts(setup.trainee, family) for name in family.text_encoders)
    dtype = setup.policy.dtype_of_parts(keeps_base=setup.trainee.keeps_base)
    return dict.fromkeys((family.denoiser, *(family.text_encoders if learns_text else ())), dtype)


def place_for_training(components: Components, setup: TrainingSetup, device: torch.device) -> Placed:
    """Move the denoiser to the device, with the text encoders if one of them learns; otherwise they stay where they are in
    their dtype, as the VAE does, and only visit the device.

    Parts are converted before they are moved, so no part occupies more device memory than it will need.
    """
    learning, dtypes = trained_parts(setup.trainee, components.family), dtypes_for_training(components.family, setup)
    denoiser, plan = components.denoiser, setup.plan
    nn.Module.to(denoiser, dtypes[components.family.denoiser])  # the method of diffusers' models would log a warning
    streamed = StreamedBlocks(components.family.blocks_to_stream(denoiser) if plan.stream_blocks else (), device)
    streamed.attach()
    denoiser.to(device)
    # Faster convolutions on tensor cores; not supported by the tensor-by-tensor optimizer and FSDP.
    if device.type == "cuda" and not works_by_tensor(setup.optimizer.optimizer, plan) and not plan.shard:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name in components.family.text_encoders:
        if name in dtypes:  # one of them learns, so all encode in every step
            components.parts[name].to(device, dtypes[name])
    return Placed(components, learning, streamed)


def assemble(placed: Placed, setup: TrainingSetup, processes: Processes) -> tuple[Trainee, TrainingState]:
    """The trainee and its state before the first step. Shards the weights over the processes if the plan says so."""
    components, plan, loop = placed.components, setup.plan, setup.loop
    if plan.shard:  # before anything references the parameters, since sharding replaces them
        for module in (components.parts[name] for name in placed.learning):
            shard(module, processes, next(module.parameters()).device)
    trainee = make_trainee(
        components, setup.trainee, learning_rate=setup.optimizer.rate, dtype=setup.policy.weight_dtype, seed=loop.seed
    )
    inner = components.family.inner_blocks(components.denoiser)
    recompute_activations(trainee.parts.values(), plan.gradient_checkpointing, inner_blocks=inner)
    compile_modules(trainee.parts.values(), loop.compile)
    optimizer = make_optimizer(
        trainee,
        setup.optimizer,
        plan,
        total_steps=loop.steps,
        processes=processes,
        seed=loop.seed,
    )
    if isinstance(optimizer, Tensorwise):
        placed.streamed.write_home_while(lambda: optimizer.is_moving)
    state = TrainingState(
        denoiser=Denoiser(components, setup.policy),
        optimizer=optimizer,
        average=NoAverage() if loop.ema_decay is None else WeightAverage(trainee.parameters, loop.ema_decay),
        loss_scale=LossScale() if setup.policy.needs_loss_scale else FixedLossScale(),
        processes=processes,
    )
    return trainee, state
