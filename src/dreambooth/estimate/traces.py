"""The device memory used by the parts of a run, measured by running them on tensors without data (meta device).

Results are cached, since tracing a full-size model takes about a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.settings import OptimizerName, OptimizerSettings
from dreambooth.training.state_formats import format_for
from dreambooth.training.tensor_updates import PIECE, AdafactorUpdate, AdamWUpdate, Moment
from dreambooth.training.weight_average import WeightAverage

__all__ = [
    "AverageUse",
    "OptimizerName",
    "Sampling",
    "StepTrace",
    "StepUse",
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
_HOST = "cpu"  # the device type for which autocast is enabled: see AsOnCuda


@dataclass(frozen=True)
class Sampling:
    """How many images are generated at once, and whether each needs a second prediction for guidance."""

    num_pictures: int
    is_guided: bool


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
    used_up_with: tuple[OptimizerName, StateFormat] | None
    """The optimizer and state format that apply each gradient immediately; None keeps the gradients."""


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
    for parameter in trainee.parameters.values():
        if trace.is_accumulating:
            parameter.grad = torch.empty_like(parameter)
            live.hold(_GRADIENTS, [parameter.grad])
        scratch = None if trace.used_up_with is None else scratch_bytes(*trace.used_up_with, parameter.dtype, parameter.shape)
        parameter.register_post_accumulate_grad_hook(partial(_gradient_is_made, live, scratch))  # type: ignore[no-untyped-call]
    with live, trainee.train_mode():
        x_t_BCHW, t_B = _latents(trace.family, trace.size, trace.num_examples), _timesteps(trace.num_examples)
        learns = any(name in trainee.parts for name in trace.family.text_encoders)
        text = (trace.family.empty_ids if learns else trace.family.empty_conditioning)(trace.num_examples, _META)
        sizes_B6 = torch.empty(trace.num_examples, 6, device=_META) if trace.family.takes_sizes else None
        with cuda:
            loss = squared_error(denoiser(x_t_BCHW, t_B, text, sizes_B6), torch.empty_like(x_t_BCHW)).sum()
        cuda.backward(loss)
    return StepUse(live.fullest.get(_GRADIENTS, 0), live.fullest.get(ACTIVATIONS, 0), live.fullest.get(_SCRATCH, 0))


def _gradient_is_made(live: LiveBytes, scratch: int | None, parameter: nn.Parameter) -> None:
    assert parameter.grad is not None
    live.hold(_GRADIENTS, [parameter.grad])
    if scratch is not None:
        live.pass_by(_SCRATCH, scratch)
        parameter.grad = None


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
    kept = [
        format_for(states, n).zeros(n, is_signed=signed, device=_META)
        for n in map(math.prod, shapes)
        for signed in (True, False)
    ]
    return stored_bytes(tensor for parts in kept for tensor in parts.values())


def _adafactor_states(shape: torch.Size) -> Iterable[Tensor]:
    rows, *others = shape
    sizes = (rows, math.prod(others)) if others else (rows,)
    return (torch.empty(size, device=_META) for size in sizes)


@cache
def scratch_bytes(optimizer: OptimizerName, states: StateFormat, dtype: torch.dtype, shape: torch.Size) -> int:
    """Temporary bytes for the update of one tensor, besides weight, gradient and states."""
    if optimizer == "adafactor":
        return _update_bytes(AdafactorUpdate(OptimizerSettings(optimizer="adafactor"), _META), dtype, shape)
    # A piece of any tensor needs as much per element as the whole; tracing a piece with 8 or 4 bits takes a while.
    return _piece_bytes(states, dtype) * min(shape.numel(), PIECE) // PIECE


@cache
def largest_scratch_bytes(
    family: Family, trainee: TraineeSettings, dtype: torch.dtype, *, optimizer: OptimizerName, states: StateFormat
) -> int:
    """The same for the tensor that needs the most."""
    shapes = set(_trained_shapes(family, trainee))
    return max(scratch_bytes(optimizer, states, dtype, shape) for shape in shapes)


@cache
def _piece_bytes(states: StateFormat, dtype: torch.dtype) -> int:
    return _update_bytes(AdamWUpdate(OptimizerSettings(), states, _META, on_host=False), dtype, torch.Size([PIECE]))


def _update_bytes(update: AdamWUpdate | AdafactorUpdate, dtype: torch.dtype, shape: torch.Size) -> int:
    live = LiveBytes()
    with torch.no_grad():
        parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device=_META))
        parameter.grad = torch.empty_like(parameter)
        moment = Moment(1, torch.zeros((), dtype=torch.bool, device=_META), torch.ones((), device=_META))
        update.move("", parameter, 1.0, moment, (0, 0))  # creates the optimizer states
        parameter.grad = torch.empty_like(parameter)
        with live:
            update.move("", parameter, 1.0, moment, (0, 0))
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
