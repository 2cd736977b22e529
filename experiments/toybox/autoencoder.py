"""The autoencoder, which encodes images to latents and decodes them.

Kingma and Welling, arXiv 1312.6114; as the first stage of a latent diffusion model, Rombach et al., arXiv 2112.10752.

Shapes: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal

if TYPE_CHECKING:
    from dreambooth.families.sd1 import StableDiffusion1

__all__ = ["autoencoder_loss", "normalise_latents", "start_tight"]

_KL_WEIGHT = 2e-4
_EDGE_WEIGHT = 0.5
_FIRST_LOG_VARIANCE = -5.0


@torch.no_grad()
def start_tight(vae: Any) -> None:
    """Start with a small standard deviation; starting with 1, the decoder learns to ignore the latents and never recovers."""
    channels = vae.quant_conv.out_channels // 2
    vae.quant_conv.weight[channels:].zero_()
    vae.quant_conv.bias[channels:].fill_(_FIRST_LOG_VARIANCE)


def autoencoder_loss(family: StableDiffusion1, vae: Any, pixels_BCHW: Tensor, *, seed: int, step: int) -> Tensor:
    """Mean absolute error of pixels in [-1, 1] and of their differences, plus a small KL term on the latents."""
    device_type = pixels_BCHW.device.type
    with torch.autocast(device_type, dtype=torch.bfloat16):
        moments = family.encode_pixels(vae, pixels_BCHW)
        mean, deviation = moments.mean.float(), moments.deviation.float()
        eps = normal(mean.shape, seed, "autoencoder", step).to(mean.device)
        latents = LatentMoments(mean, deviation).sample(eps)
        decoded = vae.decode(latents).sample.float()
    error = decoded - pixels_BCHW
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    variance = deviation.square()
    divergence = 0.5 * (mean.square() + variance - 1 - variance.clamp(min=1e-12).log()).mean()
    loss: Tensor = error.abs().mean() + _EDGE_WEIGHT * edges + _KL_WEIGHT * divergence
    return loss


@torch.no_grad()
def normalise_latents(vae: Any, deviation: float, scaling_factor: float) -> None:
    """Scale the latents, whose standard deviation is `deviation`, so that `scaling_factor` brings them to 1.

    The factor goes into the two 1x1 convolutions next to the latents. The reconstruction stays the same, and the family's fixed
    scaling factor fits this model as it fits every Stable Diffusion 1.
    """
    factor = 1 / (scaling_factor * deviation)
    channels = vae.quant_conv.out_channels // 2
    vae.quant_conv.weight[:channels] *= factor
    vae.quant_conv.bias[:channels] *= factor
    vae.quant_conv.bias[channels:] += 2 * torch.tensor(factor).log()
    vae.post_quant_conv.weight /= factor
