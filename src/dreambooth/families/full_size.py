"""The sizes of published models, for code that needs them without a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dreambooth.families.family import Family
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sd2 import StableDiffusion2
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape

__all__ = [
    "FULL_SIZE",
    "full_size_stable_diffusion_1",
    "full_size_stable_diffusion_2",
    "full_size_stable_diffusion_xl",
]


_CLIP = TextShape(vocabulary=49408, num_positions=77, width=768, inner_width=3072, num_layers=12)
_VAE = VaeShape(pixel_channels=3, latent_channels=4, widths=(128, 256, 512, 512), num_layers=2)


def full_size_stable_diffusion_1() -> StableDiffusion1:
    """Stable Diffusion 1 as published: 1.07 billion parameters, images of 512 pixels."""
    return StableDiffusion1(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(320, 640, 1280, 1280),
            num_layers=2,
            depths=(1, 1, 1, 0),
            middle_depth=1,
            context_width=768,
            has_linear_projections=False,
        ),
        vae=_VAE,
        text=_CLIP,
    )


def full_size_stable_diffusion_2() -> StableDiffusion2:
    """Stable Diffusion 2 for 768 pixels as published: 1.29 billion parameters that are used."""
    return StableDiffusion2(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(320, 640, 1280, 1280),
            num_layers=2,
            depths=(1, 1, 1, 0),
            middle_depth=1,
            context_width=1024,
            has_linear_projections=True,
        ),
        vae=_VAE,
        text=TextShape(vocabulary=49408, num_positions=77, width=1024, inner_width=4096, num_layers=23),
        resolution=768,
        prediction="velocity",
    )


def full_size_stable_diffusion_xl() -> StableDiffusionXL:
    """Stable Diffusion XL as published: 3.47 billion parameters, images of 1024 pixels."""
    return StableDiffusionXL(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(320, 640, 1280),
            num_layers=2,
            depths=(0, 2, 10),
            middle_depth=10,
            context_width=2048,
            has_linear_projections=True,
            vector_width=2816,
        ),
        vae=_VAE,
        text=_CLIP,
        text_2=TextShape(
            vocabulary=49408, num_positions=77, width=1280, inner_width=5120, num_layers=32, projection_width=1280
        ),
    )


FULL_SIZE: Mapping[str, Callable[[], Family]] = {
    "sd1": full_size_stable_diffusion_1,
    "sd2": full_size_stable_diffusion_2,
    "sdxl": full_size_stable_diffusion_xl,
}
"""By the families' short names."""
