"""From prompts to latents, one denoising step at a time, and from latents to pixels.

Shapes: B pictures, L tokens, C channels, H and W sizes (of latents here, of pixels after `decode`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Generator, Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.guidance import guide
from dreambooth.diffusion.prediction import predicted_noise
from dreambooth.diffusion.randomness import generator, normal
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.components import Components
from dreambooth.sampling.records import Picture, SamplingOptions, SamplingState
from dreambooth.sampling.solvers import PredictNoise, Solver, make_solver

__all__ = ["check_size", "decode", "denoise", "final_latents", "guided_noise", "sample"]


def sample(
    components: Components,
    pictures: Sequence[Picture],
    options: SamplingOptions,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[SamplingState]:
    """Make one batch of pictures: an iterator of states, one a denoising step; the last holds the final latents.

    Nothing is computed until the first state is asked for, and whoever stops asking has cancelled. Picture k starts from
    normal(seed, "x_T", k) and is given normal(seed, "step noise", k, i) at step i, drawn on the CPU, so it depends on the
    seed, k, its prompt and the options alone; in a batch of another size it differs by rounding only. One that shares
    another's start noise begins as that one does. The UNet and the text encoder must be on `device`; they calculate in
    `dtype`, under autocast where their weights are of another type, while x stays in float32.

    Raises SettingsError when the model cannot take the size.
    """
    family = components.family
    check_size(family.downsampling, height=options.height, width=options.width)
    solver = make_solver(options.sampler, family.schedule, options.steps, eta=options.eta)

    def run() -> Iterator[SamplingState]:
        shape = (family.latent_channels, options.height // family.downsampling, options.width // family.downsampling)
        eps_BCHW = torch.stack([_start_noise(shape, options.seed, picture) for picture in pictures])
        prompts = _encode(components, [picture.prompt for picture in pictures], device, dtype)
        is_guided = options.guidance_scale != 1
        negative = _encode(components, [options.negative_prompt], device, dtype) if is_guided else None
        predict = guided_noise(components, prompts, negative, scale=options.guidance_scale, dtype=dtype)

        def generators(index: int) -> list[Generator]:
            return [generator(options.seed, "step noise", picture.index, index) for picture in pictures]

        yield from denoise(solver, solver.start(eps_BCHW.to(device)), predict, generators)

    return run()


def final_latents(
    components: Components,
    pictures: Sequence[Picture],
    options: SamplingOptions,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The latents (B, C, H, W) of one batch of pictures, as `sample` leaves them in its last state."""
    *_, final = sample(components, pictures, options, device=device, dtype=dtype)
    return final.x_BCHW


def denoise(
    solver: Solver, x_BCHW: Tensor, predict: PredictNoise, generators: Callable[[int], Sequence[Generator]]
) -> Iterator[SamplingState]:
    """Walk a solver from `x_BCHW` to the end. `generators` gives each step's, one a picture."""
    for index in range(solver.num_steps):
        with torch.no_grad():  # not around the yield: a generator's mode would leak into its caller
            x_BCHW, x_0_BCHW = solver.step(index, x_BCHW, predict, generators(index))
        yield SamplingState(index + 1, solver.num_steps, x_BCHW, x_0_BCHW)


def guided_noise(
    components: Components, prompts: Conditioning, negative: Conditioning | None, *, scale: float, dtype: torch.dtype
) -> PredictNoise:
    """The denoiser with classifier-free guidance, both halves in one forward pass.

    `prompts` has a row for each picture and `negative` one row for all; without it the prompts count alone.
    """
    family, denoiser, conditioning = components.family, components.denoiser, prompts
    if negative is not None:
        conditioning = Conditioning.concatenate([negative.expand(len(prompts.states_BLD)), prompts])

    def predict(x_BCHW: Tensor, t: float) -> Tensor:
        x_t_BCHW = x_BCHW if negative is None else torch.cat([x_BCHW, x_BCHW])
        t_B = torch.full((x_t_BCHW.shape[0],), t, device=x_t_BCHW.device)
        weight_dtype = _dtype_of(denoiser)
        with _arithmetic(denoiser, dtype):
            output_BCHW = family.predict(denoiser, x_t_BCHW.to(weight_dtype), t_B, conditioning.to(dtype=weight_dtype))
        eps_BCHW = predicted_noise(family.prediction, family.schedule, output_BCHW.float(), x_t_BCHW, t)
        if negative is None:
            return eps_BCHW
        eps_unconditional, eps_conditional = eps_BCHW.chunk(2)
        return guide(eps_unconditional, eps_conditional, scale)

    return predict


def decode(components: Components, latents_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 1], (B, 3, H, W) float32 on the latents' device.

    Pictures are decoded one at a time, so memory does not grow with the batch, and always in float32, to which the VAE is
    brought for the time if it is of another type: many VAEs of Stable Diffusion 1 overflow float16 and give black pictures.

    Raises ModelFileError when a picture is not finite.
    """
    device = next(components.vae.parameters()).device
    with torch.no_grad(), _in_float32(components.vae), torch.autocast(device.type, enabled=False):
        pixels = [components.family.decode_latents(components.vae, x.to(device).float()) for x in torch.split(latents_BCHW, 1)]
    pixels_BCHW = torch.cat(pixels)
    if not torch.isfinite(pixels_BCHW).all():
        raise ModelFileError(
            "The model gave numbers that are not finite, so there is no picture.",
            hint="If it calculates in fp16, try --precision bf16 or fp32; otherwise its weights are damaged.",
        )
    return ((pixels_BCHW + 1) / 2).clamp(0, 1).to(latents_BCHW.device)


def check_size(downsampling: int, *, height: int, width: int) -> None:
    """Raise SettingsError unless height and width, in pixels, are multiples of the VAE's downsampling.

    The UNet itself takes latents of every size: its upsampling aims at the sizes that its downsampling came through.
    """
    problems = [
        f"{name} is {pixels}: this model makes multiples of {downsampling}, such as {_nearest_multiple(pixels, downsampling)}"
        for name, pixels in (("height", height), ("width", width))
        if pixels % downsampling or pixels < downsampling
    ]
    if problems:
        raise SettingsError(problems)


def _nearest_multiple(value: int, unit: int) -> int:
    return max(unit, round(value / unit) * unit)


@torch.no_grad()
def _encode(components: Components, prompts: Sequence[str], device: torch.device, dtype: torch.dtype) -> Conditioning:
    input_ids_BL = components.family.tokenize(components.tokenizer, prompts).to(device)
    with _arithmetic(components.text_encoders[0], dtype):
        return components.family.encode_text(components.parts, input_ids_BL)


def _start_noise(shape: tuple[int, ...], seed: int, picture: Picture) -> Tensor:
    return normal(shape, seed, "x_T", picture.index if picture.start is None else picture.start)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _arithmetic(module: nn.Module, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to `dtype` where the weights are float32 and `dtype` is shorter; nothing where they are of it already."""
    weights = next(module.parameters())
    if weights.dtype == dtype:
        return nullcontext()
    assert weights.dtype == torch.float32, f"weights of {weights.dtype} cannot calculate in {dtype}"
    return torch.autocast(weights.device.type, dtype=dtype)


@contextmanager
def _in_float32(module: nn.Module) -> Iterator[None]:
    """Bring a module to float32 and back; every number of a shorter type is exact in float32, so it returns unchanged."""
    before = _dtype_of(module)
    nn.Module.to(module, torch.float32)  # that of diffusers' models logs a warning that does not concern this family
    try:
        yield
    finally:
        nn.Module.to(module, before)
