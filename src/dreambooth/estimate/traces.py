"""The device memory used by the parts of a run, measured by running them on tensors without data (meta device).

Results are cached, since tracing a full-size model takes about a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from dreambooth.data.size import Size
from dreambooth.diffusion.objective import squared_error
from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.families.untrained import without_memory
from dreambooth.memory.as_on_cuda import AsOnCuda
from dreambooth.memory.recompute import recompute_activations
from dreambooth.memory.settings import Checkpointing, Precision, StateFormat
from dreambooth.memory.tracing import ACTIVATIONS, LiveBytes, stored_bytes
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.sampling.sampler import guided_prediction
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.batch_sizes import numbers_at_once
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.flat import BatchQueue
from dreambooth.training.settings import OptimizerName, OptimizerSettings
from dreambooth.training.state_formats import format_for
from dreambooth.training.tensor_updates import AdafactorUpdate, AdamWUpdate, Change, Moment
from dreambooth.training.weight_average import WeightAverage

__all__ = [
    "AverageUse",
    "OptimizerName",
    "Sampling",
    "StepTrace",
    "StepUse",
    "Updates",
    "average_use",
    "decoding_bytes",
    "encoding_bytes",
    "gradient_bytes",
    "largest_scratch_bytes",
    "largest_streamed_bytes",
    "part_bytes",
    "sampling_bytes",
    "scratch_bytes",
    "state_bytes",
    "step_use",
    "streamed_away_bytes",
]

_META = torch.device("meta")
_GRADIENTS, _SCRATCH = "gradients", "scratch"
_TRACED = 2**20  # numbers of the batch whose scratch is measured
_HOST = "cpu"  # the device type for which autocast is enabled: see AsOnCuda


@dataclass(frozen=True)
class Sampling:
    """How many images are generated at once, and whether each needs a second prediction for guidance."""

    num_pictures: int
    is_guided: bool


@dataclass(frozen=True)
class Updates:
    """What determines the scratch of the tensor-wise optimizer."""

    optimizer: OptimizerName
    states: StateFormat
    is_streamed: bool
    """Whether weights leave the device once they have their gradients."""

    def at_once(self, total: int) -> int:
        """Numbers that AdamW updates at once on a device that is not a CPU, for a trainee of `total` numbers."""
        return numbers_at_once(total, _META, is_streamed=self.is_streamed)


@dataclass(frozen=True)
class StepTrace:
    """What determines the gradients and activations of a training step."""

    family: Family
    precision: Precision
    checkpointing: Checkpointing
    size: Size
    num_examples: int
    """Photos and class images of one forward pass."""
    trainee: TraineeSettings
    is_accumulating: bool
    """Whether gradients of an earlier forward pass exist."""
    used_up_by: Updates | None
    """The updates that use gradients up in the backward pass; None keeps the gradients."""


@dataclass(frozen=True)
class StepUse:
    """Peak bytes of a forward and backward pass, besides weights and states."""

    gradients: int
    activations: int
    scratch: int


@dataclass(frozen=True)
class AverageUse:
    """Bytes of EMA weights."""

    kept: int
    to_update: int
    """Additional temporary bytes after each step."""
    in_place: int
    """Additional bytes while the parameters hold the EMA weights."""


@cache
def _untouched(family: Family) -> Components:
    """A shared model in float32 for inspection; callers that modify a model must create their own."""
    return without_memory(family)


@cache
def part_bytes(family: Family, part: str, dtype: torch.dtype) -> int:
    """Bytes of the weights of one part in `dtype`, and of its buffers."""
    module = _untouched(family).parts[part]
    return _bytes_in(dtype, module.parameters()) + stored_bytes(module.buffers())


@cache
def streamed_away_bytes(family: Family, dtype: torch.dtype) -> int:
    """Bytes of the denoiser's weights that are in host memory while its largest block is on the device."""
    sizes = _block_bytes(family, dtype)
    return sum(sizes) - max(sizes)


@cache
def largest_streamed_bytes(family: Family, dtype: torch.dtype) -> int:
    """Bytes of the denoiser's largest block, which is on the device only while it runs."""
    return max(_block_bytes(family, dtype))


def _block_bytes(family: Family, dtype: torch.dtype) -> list[int]:
    return [_bytes_in(dtype, block.parameters()) for block in family.blocks_to_stream(_untouched(family).denoiser)]


def _bytes_in(dtype: torch.dtype, weights: Iterable[Tensor]) -> int:
    return stored_bytes([torch.empty_like(weight, dtype=dtype) for weight in weights])


@cache
def step_use(trace: StepTrace) -> StepUse:
    """Trace one forward and backward pass as in training."""
    components, policy = without_memory(trace.family), PrecisionPolicy(trace.precision, _HOST)
    trainee = _trainee(components, policy.weight_dtype, trace.trainee)
    for module in trainee.parts.values():
        _in_format(module, policy.dtype_of_parts(keeps_base=trace.trainee.keeps_base))
    inner = trace.family.inner_blocks(components.denoiser)
    recompute_activations(trainee.parts.values(), trace.checkpointing, inner_blocks=inner)
    denoiser = Denoiser(components, policy)
    live, cuda = LiveBytes(), AsOnCuda()
    use_up = None if trace.used_up_by is None else _use_up(live, trace.used_up_by, trainee)
    for name, parameter in trainee.parameters.items():
        if trace.is_accumulating:
            parameter.grad = torch.empty_like(parameter)
            live.hold(_GRADIENTS, [parameter.grad])
        parameter.register_post_accumulate_grad_hook(partial(_gradient_is_made, live, use_up, name))  # type: ignore[no-untyped-call]
    with live, trainee.train_mode():
        x_t_BCHW, t_B = _latents(trace.family, trace.size, trace.num_examples), _timesteps(trace.num_examples)
        learns = any(name in trainee.parts for name in trace.family.text_encoders)
        text = (trace.family.empty_ids if learns else trace.family.empty_conditioning)(trace.num_examples, _META)
        sizes_B6 = torch.empty(trace.num_examples, 6, device=_META) if trace.family.takes_sizes else None
        with cuda:
            loss = squared_error(denoiser(x_t_BCHW, t_B, text, sizes_B6), torch.empty_like(x_t_BCHW)).sum()
        cuda.backward(loss)
    return StepUse(live.fullest.get(_GRADIENTS, 0), live.fullest.get(ACTIVATIONS, 0), live.fullest.get(_SCRATCH, 0))


def _gradient_is_made(live: LiveBytes, use_up: Callable[..., None] | None, name: str, parameter: nn.Parameter) -> None:
    assert parameter.grad is not None
    live.hold(_GRADIENTS, [parameter.grad])
    if use_up is not None:
        use_up(name, parameter)


def _use_up(live: LiveBytes, updates: Updates, trainee: Trainee) -> Callable[[str, nn.Parameter], None]:
    """What the optimizer does with a gradient in the backward pass: it waits until a batch is full, which is then used up."""
    rate_of = {name: group.learning_rate for group in trainee.groups for name in group.parameters}
    total = sum(parameter.numel() for parameter in trainee.parameters.values())
    waits = updates.optimizer != "adafactor" and not updates.is_streamed
    queue: BatchQueue[nn.Parameter] = BatchQueue(updates.at_once(total))

    def use_up(name: str, parameter: nn.Parameter) -> None:
        count, dtype = parameter.numel(), parameter.dtype
        if not waits:
            live.pass_by(_SCRATCH, scratch_bytes(updates, dtype, (parameter.shape,), total=total))
            parameter.grad = None
            return
        for batch in queue.add((format_for(updates.states, count), rate_of[name]), parameter, count):
            shapes = tuple(torch.Size([piece.count]) for piece in batch)
            live.pass_by(_SCRATCH, scratch_bytes(updates, dtype, shapes, total=total))
            for piece in batch:
                if piece.is_last:
                    piece.item.grad = None

    return use_up


@cache
def sampling_bytes(
    family: Family,
    sampling: Sampling,
    *,
    size: Size,
    weight_dtype: torch.dtype,
    compute_dtype: torch.dtype,
    is_learning: bool,
) -> int:
    """Bytes of one denoising step besides the weights. Mixed precision caches 16-bit copies of trainable weights."""
    components, live = without_memory(family), LiveBytes()
    _in_format(components.denoiser, weight_dtype).requires_grad_(is_learning)
    with live, AsOnCuda(), torch.no_grad(), torch.autocast(_HOST, compute_dtype, enabled=compute_dtype != weight_dtype):
        prompts = family.empty_conditioning(sampling.num_pictures, _META)
        empty = prompts.index(slice(1)) if sampling.is_guided else None
        # In the weights' own dtype: autocast, which guided_prediction would enable for the meta device, is already on.
        predict = guided_prediction(components, prompts, empty, scale=2.0, dtype=weight_dtype)
        predict(_latents(family, size, sampling.num_pictures), 1.0)
    return live.peak


@cache
def decoding_bytes(family: Family, size: Size) -> int:
    """Bytes for decoding one latent to pixels in float32, besides the weights."""
    vae, live = _untouched(family).vae, LiveBytes()
    with live, AsOnCuda(), torch.no_grad():
        family.decode_latents(vae, _latents(family, size, 1))
    return live.peak


@cache
def encoding_bytes(family: Family, size: Size) -> int:
    """Bytes for encoding one image to a latent in float32, besides the weights."""
    vae, live = _untouched(family).vae, LiveBytes()
    with live, AsOnCuda(), torch.no_grad():
        family.encode_pixels(vae, torch.empty(1, family.pixel_channels, size.height, size.width, device=_META))
    return live.peak


@cache
def gradient_bytes(family: Family, trainee: TraineeSettings, dtype: torch.dtype) -> int:
    """Bytes of all gradients."""
    return stored_bytes([torch.empty(shape, dtype=dtype, device=_META) for shape in _trained_shapes(family, trainee)])


@cache
def state_bytes(family: Family, trainee: TraineeSettings, *, optimizer: OptimizerName, states: StateFormat) -> int:
    """Bytes of the optimizer states."""
    shapes = _trained_shapes(family, trainee)
    if optimizer == "adafactor":
        return stored_bytes(tensor for shape in shapes for tensor in _adafactor_states(shape))
    kept = [format_for(states, n).zeros(n, device=_META) for n in map(math.prod, shapes) for _ in range(2)]
    return stored_bytes(tensor for parts in kept for tensor in parts.values())


def _adafactor_states(shape: torch.Size) -> Iterable[Tensor]:
    rows, *others = shape
    sizes = (rows, math.prod(others)) if others else (rows,)
    return (torch.empty(size, device=_META) for size in sizes)


@cache
def scratch_bytes(updates: Updates, dtype: torch.dtype, shapes: tuple[torch.Size, ...], *, total: int) -> int:
    """Temporary bytes to update these tensors, of a trainee of `total` numbers, besides weights, gradients and states."""
    if updates.optimizer == "adafactor":
        return max(_adafactor_bytes(dtype, shape) for shape in set(shapes))
    numbers = min(sum(map(math.prod, shapes)), updates.at_once(total))
    return _bytes_of_batch(updates.states, dtype) * numbers // _TRACED


@cache
def largest_scratch_bytes(family: Family, trainee: TraineeSettings, dtype: torch.dtype, updates: Updates) -> int:
    """The same for all tensors of a trainee, whose gradients all exist."""
    shapes = _trained_shapes(family, trainee)
    return scratch_bytes(updates, dtype, shapes, total=sum(map(math.prod, shapes)))


@cache
def _bytes_of_batch(states: StateFormat, dtype: torch.dtype) -> int:
    """Scratch of `_TRACED` numbers of two tensors, which are gathered; every batch needs as much per number, or less."""
    update = AdamWUpdate(OptimizerSettings(), states, _META, on_host=False, at_once=_TRACED)
    return _update_bytes(update, dtype, [torch.Size([_TRACED // 2])] * 2)


@cache
def _adafactor_bytes(dtype: torch.dtype, shape: torch.Size) -> int:
    return _update_bytes(AdafactorUpdate(OptimizerSettings(optimizer="adafactor"), _META), dtype, [shape])


def _update_bytes(update: AdamWUpdate | AdafactorUpdate, dtype: torch.dtype, shapes: Sequence[torch.Size]) -> int:
    live, changes = LiveBytes(), []
    with torch.no_grad():
        for number, shape in enumerate(shapes):
            parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device=_META))
            changes.append(Change(str(number), parameter, 1.0, (0, 0)))
        moment = Moment(1, torch.zeros((), dtype=torch.bool, device=_META), torch.ones((), device=_META))
        for mode in (nullcontext(), live):  # the first time the optimizer states are created
            for change in changes:
                change.parameter.grad = torch.empty_like(change.parameter)
            with mode:
                update.begin(moment)
                for change in changes:
                    update.add(change)
                update.finish()
    return live.peak


@cache
def average_use(family: Family, settings: TraineeSettings, dtype: torch.dtype) -> AverageUse:
    """Trace EMA weights of `dtype`: keeping, updating, and swapping them in."""
    trainee = _trainee(without_memory(family), dtype, settings)
    with LiveBytes() as keeping:
        average = WeightAverage(trainee.parameters, 0.5)
    with LiveBytes() as updating:
        average.update()
    with LiveBytes() as placing, average.in_place():
        pass
    return AverageUse(keeping.peak, updating.peak, placing.peak)


@cache
def _trained_shapes(family: Family, settings: TraineeSettings) -> tuple[torch.Size, ...]:
    parameters = _trainee(without_memory(family), torch.float32, settings).parameters
    return tuple(parameter.shape for parameter in parameters.values())


def _trainee(components: Components, dtype: torch.dtype, settings: TraineeSettings) -> Trainee:
    trainee = make_trainee(components, settings, learning_rate=1.0, dtype=dtype, seed=0)
    for module in trainee.parts.values():
        _in_format(module, dtype)
    return trainee


def _in_format(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return nn.Module.to(module, dtype)  # diffusers' own `to` logs a warning that is irrelevant for this family


def _latents(family: Family, size: Size, count: int) -> Tensor:
    height, width = size.height // family.downsampling, size.width // family.downsampling
    return torch.empty(count, family.latent_channels, height, width, device=_META)


def _timesteps(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.int64, device=_META)
