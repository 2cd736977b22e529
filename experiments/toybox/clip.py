"""The text encoder, trained by contrast between pictures and captions.

This is CLIP (Radford et al., arXiv 2103.00020). The picture tower is helped by linear heads that read class, colour, pattern
and place from its embedding: on a world this small they teach it what to look at long before contrast alone does.

Shapes: B pairs, L tokens, D widths, K choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreambooth.diffusion.randomness import seeded

__all__ = ["PROJECTION", "VISION", "attribute_heads", "contrast_loss", "voice"]

VISION: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 64,
    "patch_size": 8,
}
"""The picture tower, as transformers' CLIPVisionConfig describes it."""

PROJECTION = 128
"""Width of the space in which pictures and captions meet."""

_ATTRIBUTE_WEIGHT = 0.5


def attribute_heads(choices: Mapping[str, int], *, seed: int) -> nn.ModuleDict:
    """A linear reading of the picture's embedding for each attribute."""
    with seeded(seed):
        return nn.ModuleDict({name: nn.Linear(PROJECTION, count) for name, count in choices.items()})


def contrast_loss(
    clip: Any, heads: nn.ModuleDict, pixels_BCHW: Tensor, input_ids_BL: Tensor, labels: Mapping[str, Tensor]
) -> Tensor:
    """Symmetric cross-entropy over the batch, plus that of the attribute heads.

    A pair whose caption is word for word that of another pair in the batch is no mistake: both count as right. Token ids
    may be cut behind the last end: the mask is causal, so nothing that is read here depends on what follows.
    """
    with torch.autocast(pixels_BCHW.device.type, dtype=torch.bfloat16):
        outputs = clip(input_ids=input_ids_BL, pixel_values=pixels_BCHW)
    image_BD, text_BD = outputs.image_embeds.float(), outputs.text_embeds.float()
    logits_BB = clip.logit_scale.float().clamp(max=math.log(100)).exp() * image_BD @ text_BD.T
    same_BB = (input_ids_BL.unsqueeze(0) == input_ids_BL.unsqueeze(1)).all(dim=2).float()
    target_BB = same_BB / same_BB.sum(dim=1, keepdim=True)
    loss = 0.5 * (F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB))
    scaled_BD = image_BD * math.sqrt(image_BD.shape[1])
    for name, head in heads.items():
        loss = loss + _ATTRIBUTE_WEIGHT * F.cross_entropy(head(scaled_BD), labels[name])
    return loss


def voice(states_LD: Tensor, without_LD: Tensor) -> float:
    """How much a word changes the text states: the relative difference to the states of the caption without it."""
    return float((states_LD - without_LD).norm() / without_LD.norm())
