"""Whether parts of these shapes are a Stable Diffusion XL base model, or which other model of its kind they are."""

from __future__ import annotations

from collections.abc import Iterator

from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.shapes import UNetShape

__all__ = ["SDXL_BASE", "SDXL_REFINER", "sdxl_problems"]

SDXL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"
"""The published model that others of its kind were made from."""

SDXL_REFINER = f"the Stable Diffusion XL refiner, which only finishes the images of a base model such as {SDXL_BASE}"

_FULL_WIDTHS, _FULL_DEPTHS = (320, 640, 1280), (0, 2, 10)
_REFINER_WIDTH = 384
_SIZE_NUMBERS = 6 * 256  # sinusoids of six numbers; the refiner takes five


def sdxl_problems(family: StableDiffusionXL) -> list[str]:
    """A sentence for every contradiction between the parts; one alone if they are another model of the kind."""
    if (other := _other_model(family.unet)) is not None:
        return [f"this is {other}"]
    return list(_contradictions(family))


def _other_model(unet: UNetShape) -> str | None:
    if unet.widths[:1] == (_REFINER_WIDTH,):
        return SDXL_REFINER
    if unet.widths == _FULL_WIDTHS and (unet.depths, unet.middle_depth) != (_FULL_DEPTHS, _FULL_DEPTHS[-1]):
        return (
            "a Stable Diffusion XL with blocks removed by distillation (SSD-1B, Segmind-Vega, KOALA or similar); use the model "
            f"that it was distilled from, such as {SDXL_BASE}"
        )
    return None


def _contradictions(family: StableDiffusionXL) -> Iterator[str]:
    unet, vae, text, text_2 = family.unet, family.vae, family.text, family.text_2
    if unet.context_width != text.width + text_2.width:
        yield (
            f"the UNet expects text states {unet.context_width} wide and the text encoders make {text.width} + {text_2.width}"
        )
    if unet.vector_width != text_2.projection_width + _SIZE_NUMBERS:
        yield (
            f"the UNet takes a vector of {unet.vector_width}, where the pooled text and the sizes are "
            f"{text_2.projection_width} + {_SIZE_NUMBERS}"
        )
    if not unet.has_linear_projections:
        yield "the UNet has convolutions around its attention, where Stable Diffusion XL has linear projections"
    if unet.middle_depth != unet.depths[-1]:
        yield f"the middle of the UNet is {unet.middle_depth} transformer blocks deep and its last level {unet.depths[-1]}"
    if unet.in_channels != vae.latent_channels:
        yield f"the UNet takes {unet.in_channels} latent channels and the VAE makes {vae.latent_channels}"
    heads = {"UNet": unet.widths, "first text encoder": (text.width,), "second text encoder": (text_2.width,)}
    for part, widths in heads.items():
        for width in widths:
            if width % family.head_width:
                yield f"a level of the {part} is {width} wide, which is not divisible by its heads of {family.head_width}"
    for width in vae.widths:
        if width % 32:
            yield f"a level of the VAE is {width} wide, which is not divisible by the 32 groups of its normalization"
