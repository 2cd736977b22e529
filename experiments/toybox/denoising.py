"""The UNet, which learns to predict the noise in latents, conditioned on captions.

Ho et al., arXiv 2006.11239; Rombach et al., arXiv 2112.10752.

Shapes: B examples, N images, U captions, L tokens, D text width, C channels, H and W height and width of latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.objective import min_snr_weights, squared_error
from dreambooth.diffusion.randomness import generator
from dreambooth.diffusion.schedule import add_noise
from experiments.toybox.pictures import to_pixels

if TYPE_CHECKING:
    from dreambooth.families.sd1 import StableDiffusion1

__all__ = ["Encoded", "denoising_loss", "encode_pictures", "hearing"]

_EMPTY_SHARE = 0.1
_MIN_SNR_GAMMA = 5.0
_BATCH = 64


@dataclass(frozen=True)
class Encoded:
    """The training data of the UNet."""

    moments: LatentMoments
    """Moments of every image and its mirror image, (2N, C, H, W) float16."""
    states_ULD: Tensor
    caption_NK: Tensor
    """Rows of each image's captions in `states_ULD`."""
    empty_LD: Tensor
    """States of the empty caption."""


@torch.no_grad()
def encode_pictures(
    encode: Callable[[Tensor], LatentMoments], pixels_NHWC: Tensor, advance: Callable[[int], None]
) -> LatentMoments:
    """Posterior moments of 8-bit images, each followed by its mirror image, (2N, C, H, W) float16."""
    means, deviations = [], []
    for batch_BHWC in torch.split(pixels_NHWC, _BATCH):
        pixels_BCHW = to_pixels(batch_BHWC)
        both = torch.stack([pixels_BCHW, pixels_BCHW.flip(3)], dim=1).flatten(0, 1)
        moments = encode(both)
        means.append(moments.mean.half().cpu())
        deviations.append(moments.deviation.half().cpu())
        advance(len(batch_BHWC))
    return LatentMoments(torch.cat(means), torch.cat(deviations))


def denoising_loss(family: StableDiffusion1, unet: Any, encoded: Encoded, *, batch_size: int, seed: int, step: int) -> Tensor:
    """Min-SNR-weighted mean squared error of the predicted noise over a batch; a tenth of the captions are empty."""
    random = generator(seed, "denoising", step)
    rows_B = torch.randint(len(encoded.moments.mean), (batch_size,), generator=random)
    draws_B = torch.randint(encoded.caption_NK.shape[1], (batch_size,), generator=random)
    is_empty_B = torch.rand(batch_size, generator=random) < _EMPTY_SHARE
    t_B = torch.randint(family.schedule.num_timesteps, (batch_size,), generator=random)
    moments = LatentMoments(encoded.moments.mean[rows_B].float(), encoded.moments.deviation[rows_B].float())
    z_BCHW = family.sample_latents(moments, torch.randn(moments.mean.shape, generator=random))
    eps_BCHW = torch.randn(z_BCHW.shape, generator=random)
    text_BLD = encoded.states_ULD[encoded.caption_NK[rows_B // 2, draws_B]]
    text_BLD[is_empty_B] = encoded.empty_LD
    error_B = _error(family, unet, z_BCHW, eps_BCHW, t_B, text_BLD=text_BLD)
    return (error_B * min_snr_weights(family.schedule, t_B, _MIN_SNR_GAMMA, family.prediction).to(error_B.device)).mean()


@torch.no_grad()
def hearing(family: StableDiffusion1, unet: Any, encoded: Encoded, *, t: int, num: int, seed: int) -> float:
    """How much the UNet uses captions: the increase of the loss at timestep t with the captions of other images."""
    random = generator(seed, "hearing", t)
    rows_B = torch.randint(len(encoded.moments.mean), (num,), generator=random)
    z_BCHW = family.scaling_factor * encoded.moments.mean[rows_B].float()
    eps_BCHW, t_B = torch.randn(z_BCHW.shape, generator=random), torch.full((num,), t)
    captions_B = encoded.caption_NK[rows_B // 2, 0]
    losses = []
    for numbers_B in (captions_B, captions_B.roll(1)):
        whole = (z_BCHW, eps_BCHW, t_B, encoded.states_ULD[numbers_B])
        parts = zip(*(torch.split(tensor, _BATCH) for tensor in whole), strict=True)
        losses.append(float(torch.cat([_error(family, unet, z, eps, t, text_BLD=text) for z, eps, t, text in parts]).mean()))
    return losses[1] / losses[0] - 1


def _error(family: StableDiffusion1, unet: Any, z_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor, *, text_BLD: Tensor) -> Tensor:
    device = unet.device
    x_t_BCHW = add_noise(family.schedule, z_BCHW, eps_BCHW, t_B)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        conditioning = Conditioning(text_BLD.to(device, torch.bfloat16))
        prediction = family.predict(unet, x_t_BCHW.to(device), t_B.to(device), conditioning)
    return squared_error(prediction.float(), eps_BCHW.to(device))
