"""Masks as training uses them: the weight of each latent of a view in the loss.

Outside the subject the loss counts less. The weights of a view have mean 1, so a mask changes where a photo is learned from,
and not how large its step is.

Shapes: H and W height and width in pixels, h and w in latents.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth.data.masks import Transparency
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View

__all__ = ["mask_weights", "render_mask"]


def render_mask(shown: Transparency, photo: Photo, view: View, latent: Size) -> Tensor:
    """How much of the subject each latent of a view shows, (h, w) float32 in [0, 1]: the mean over its pixels."""
    height, width = shown.shape
    down, across = height / photo.height, width / photo.width
    box = (view.left * across, view.top * down, (view.left + view.width) * across, (view.top + view.height) * down)
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    resized = np.asarray(Image.fromarray(shown).resize((latent.width, latent.height), Image.Resampling.BOX, box=box))
    if view.flip:
        resized = resized[:, ::-1]
    return torch.from_numpy(resized.astype(np.float32) / 255)


def mask_weights(mask_hw: Tensor, outside: float) -> Tensor | None:
    """Loss weight of every latent, (h, w) float32 with mean 1: `outside` where nothing of the subject is.

    None where all of them are equal: then a mask changes nothing, as when a crop shows nothing but the subject, or none of it.
    """
    weights_hw = mask_hw + outside * (1 - mask_hw)
    if bool((weights_hw == weights_hw[0, 0]).all()):
        return None
    return weights_hw / weights_hw.mean()
