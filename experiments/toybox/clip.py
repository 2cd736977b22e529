"""The text encoder, trained contrastively on image-caption pairs.

This is CLIP (Radford et al., arXiv 2103.00020). Linear heads that predict class, color, pattern and place from the image
embedding help the image encoder: in such a small world they teach the relevant features much earlier than contrast alone.

Shapes: B pairs, L tokens, D width, K classes.
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
"""The image encoder, as arguments of transformers' CLIPVisionConfig."""

PROJECTION = 128
"""Width of the joint embedding space of images and captions."""

_ATTRIBUTE_WEIGHT = 0.5


def attribute_heads(choices: Mapping[str, int], *, seed: int) -> nn.ModuleDict:
    """A linear classifier of the image embedding for each attribute."""
    with seeded(seed):
        return nn.ModuleDict({name: nn.Linear(PROJECTION, count) for name, count in choices.items()})


def contrast_loss(
    clip: Any, heads: nn.ModuleDict, pixels_BCHW: Tensor, input_ids_BL: Tensor, labels: Mapping[str, Tensor]
) -> Tensor:
    """Symmetric cross-entropy over the batch, plus the cross-entropy of the attribute heads.

    If pairs of the batch have identical captions, all of them count as correct matches. Token ids may be truncated after the
    last end token: attention is causal, so the states used here do not depend on later tokens.
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
    """How much a word changes the text states: the relative difference from the states of the caption without it."""
    return float((states_LD - without_LD).norm() / without_LD.norm())
