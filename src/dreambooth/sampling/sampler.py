"""From prompts to latents, one denoising step at a time, and from latents to pixels.

Shapes: B images, L tokens, C channels, H and W sizes (of latents here, of pixels after `decode`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Generator, Tensor, nn

from dreambooth.data.picture_sizes import PictureSizes
from dreambooth.data.size import Size
from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.guidance import guide
from dreambooth.diffusion.randomness import generator, normal
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.components import Components
from dreambooth.sampling.placing import visiting
from dreambooth.sampling.records import Picture, SamplingOptions, SamplingState
from dreambooth.sampling.solvers import Predict, Solver, make_solver

__all__ = ["check_size", "decode", "denoise", "final_latents", "guided_prediction", "sample"]


def sample(
    components: Components,
    pictures: Sequence[Picture],
    options: SamplingOptions,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[SamplingState]:
    """Make one batch of images: an iterator of states, one per denoising step; the last holds the final latents.

    Nothing is computed until the first state is requested, and a caller cancels by stopping the iteration. Image k starts
    from normal(seed, "x_T", k) and receives normal(seed, "step noise", k, i) at step i, drawn on the CPU, so it depends only
    on the seed, k, its prompt and the options; the batch size changes it only by rounding. An image that shares another's
    start noise starts from the same noise. The UNet must be on `device`; text encoders elsewhere are moved there while they
    encode. All compute in `dtype`, under autocast if their weights have another dtype, while x stays in float32.

    Raises SettingsError if the model does not support the size.
    """
    family = components.family
    check_size(family.downsampling, height=options.height, width=options.width)
    solver = make_solver(
        options.sampler,
        family.schedule,
        options.steps,
        prediction=family.prediction,
        eta=options.eta,
        begins_last=family.begins_last,
    )

    def run() -> Iterator[SamplingState]:
        shape = (family.latent_channels, options.height // family.downsampling, options.width // family.downsampling)
        eps_BCHW = torch.stack([_start_noise(shape, options.seed, picture) for picture in pictures])
        prompts = _encode(components, [picture.prompt for picture in pictures], options, device=device, dtype=dtype)
        negative = _unconditional(components, options, device=device, dtype=dtype) if options.guidance_scale != 1 else None
        predict = guided_prediction(components, prompts, negative, scale=options.guidance_scale, dtype=dtype)

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
    """The final latents (B, C, H, W) of one batch of images, from the last state of `sample`."""
    *_, final = sample(components, pictures, options, device=device, dtype=dtype)
    return final.x_BCHW


def denoise(
    solver: Solver, x_BCHW: Tensor, predict: Predict, generators: Callable[[int], Sequence[Generator]]
) -> Iterator[SamplingState]:
    """Run a solver from `x_BCHW` to the end. `generators` returns the generators of a step, one per image."""
    for index in range(solver.num_steps):
        with torch.no_grad():  # does not enclose the yield: the mode of a Python generator would leak into its caller
            x_BCHW, x_0_BCHW = solver.step(index, x_BCHW, predict, generators(index))
        yield SamplingState(index + 1, solver.num_steps, x_BCHW, x_0_BCHW)


def guided_prediction(
    components: Components, prompts: Conditioning, negative: Conditioning | None, *, scale: float, dtype: torch.dtype
) -> Predict:
    """The denoiser with classifier-free guidance, conditional and unconditional in one forward pass.

    `prompts` has one row per image and `negative` one row for all images; if None, there is no guidance.
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
        output_BCHW = output_BCHW.to(torch.promote_types(output_BCHW.dtype, torch.float32))
        if negative is None:
            return output_BCHW
        unconditional, conditional = output_BCHW.chunk(2)
        return guide(unconditional, conditional, scale)

    return predict


def decode(components: Components, latents_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 1], (B, 3, H, W) float32 on the latents' device.

    Images are decoded one at a time, so memory does not grow with the batch, and always in float32, to which a VAE of another
    dtype is converted for the duration: many VAEs of Stable Diffusion 1 overflow in float16 and produce black images.

    Raises ModelFileError if an image is not finite.
    """
    device = next(components.vae.parameters()).device
    with torch.no_grad(), _in_float32(components.vae), torch.autocast(device.type, enabled=False):
        pixels = [components.family.decode_latents(components.vae, x.to(device).float()) for x in torch.split(latents_BCHW, 1)]
    pixels_BCHW = torch.cat(pixels)
    if not torch.isfinite(pixels_BCHW).all():
        raise ModelFileError(
            "The model produced numbers that are not finite, so there is no image.",
            hint="If its precision is fp16, try --precision bf16 or fp32; otherwise its weights are damaged.",
        )
    return ((pixels_BCHW + 1) / 2).clamp(0, 1).to(latents_BCHW.device)


def check_size(downsampling: int, *, height: int, width: int) -> None:
    """Raise SettingsError unless height and width, in pixels, are multiples of the VAE's downsampling factor.

    The UNet itself takes latents of any size: upsampling restores the sizes from before each downsampling.
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
def _encode(
    components: Components, prompts: Sequence[str], options: SamplingOptions, *, device: torch.device, dtype: torch.dtype
) -> Conditioning:
    """The prompts, with the sizes of a whole picture for families that take them."""
    input_ids_BL = components.family.tokenize(components.tokenizer, prompts).to(device)
    with visiting(components.text_encoders, device), _arithmetic(components.text_encoders[0], dtype):
        conditioning = components.family.encode_text(components.parts, input_ids_BL)
    if not components.family.takes_sizes:
        return conditioning
    sizes_6 = PictureSizes.whole(Size(options.height, options.width)).numbers().to(device)
    return conditioning.with_sizes(sizes_6.expand(len(prompts), -1))


def _unconditional(
    components: Components, options: SamplingOptions, *, device: torch.device, dtype: torch.dtype
) -> Conditioning:
    """The other end of guidance: the negative prompt; where there is none, zeros with the same sizes if that is original."""
    encoded = _encode(components, [options.negative_prompt], options, device=device, dtype=dtype)
    if options.negative_prompt or options.encode_empty_prompt or not components.family.zeroes_empty_prompt:
        return encoded
    zeros = encoded.map(torch.zeros_like)
    return zeros if encoded.sizes_B6 is None else zeros.with_sizes(encoded.sizes_B6)


def _start_noise(shape: tuple[int, ...], seed: int, picture: Picture) -> Tensor:
    return normal(shape, seed, "x_T", picture.index if picture.start is None else picture.start)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _arithmetic(module: nn.Module, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to `dtype` if the weights are float32 and `dtype` is shorter; no-op if they already have `dtype`."""
    weights = next(module.parameters())
    if weights.dtype == dtype:
        return nullcontext()
    assert weights.dtype == torch.float32, f"weights of dtype {weights.dtype} cannot compute in {dtype}"
    return torch.autocast(weights.device.type, dtype=dtype)


@contextmanager
def _in_float32(module: nn.Module) -> Iterator[None]:
    """Convert a module to float32 and back; float32 represents every shorter dtype exactly, so the weights stay unchanged."""
    before = _dtype_of(module)
    nn.Module.to(module, torch.float32)  # diffusers' own `to` logs a warning that is irrelevant for this family
    try:
        yield
    finally:
        nn.Module.to(module, before)
