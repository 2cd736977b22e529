"""The eye, trained contrastively on images of the same and of different objects.

The contrast is that of Khosla et al. (arXiv 2004.11362, their L_out); with two images per object it is NT-Xent (Chen et
al., arXiv 2002.05709). A second term with less weight contrasts classes (as in Zhang et al., arXiv 2204.13207), so that objects
of the same class are more similar than those of different classes. The loss acts on the feature itself, without a projection
head, since features are compared later. Linear heads predict the object's class, pattern and colors, but not the place.

Shapes: B images, C channels, H and W height and width, D width, K classes, M and N numbers of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreambooth.diffusion.randomness import seeded
from dreambooth.toybox.judge import ATTRIBUTES, UNASKED
from experiments.toybox.judging import softened
from experiments.toybox.lookalikes import MEMBERS

__all__ = ["SEEN", "auc", "contrast", "features", "object_heads", "readings", "seeing_loss", "tells_apart"]

SEEN = tuple(name for name in ATTRIBUTES if name != "place")
"""Attributes that the heads predict: those of the object."""

_TEMPERATURE = 0.1
_CLASS_WEIGHT = 0.3
_ATTRIBUTE_WEIGHT = 0.5
_BATCH = 128


def object_heads(width: int, *, seed: int) -> nn.ModuleDict:
    """A linear classifier of the feature for each attribute of an object."""
    with seeded(seed):
        return nn.ModuleDict({name: nn.Linear(width, len(ATTRIBUTES[name])) for name in SEEN})


def features(vit: Any, pixels_BCHW: Tensor) -> Tensor:
    """Features of pixels in [-1, 1]: the first token after the final layer norm, (B, D) float32, not normalized."""
    result: Tensor = vit(pixel_values=pixels_BCHW).last_hidden_state[:, 0].float()
    return result


def seeing_loss(
    vit: Any,
    heads: nn.ModuleDict,
    pixels_BCHW: Tensor,
    *,
    objects_B: Tensor,
    labels: Mapping[str, Tensor],
    random: torch.Generator,
) -> Tensor:
    """Contrastive losses of objects and of classes, plus the cross-entropy of the heads, on slightly blurred images."""
    shown_BCHW = softened(pixels_BCHW, random)
    with torch.autocast(pixels_BCHW.device.type, dtype=torch.bfloat16):
        seen_BD = F.normalize(features(vit, shown_BCHW), dim=1)
    loss = contrast(seen_BD, objects_B) + _CLASS_WEIGHT * contrast(seen_BD, labels["class"])
    for name, answers in _answers(heads, seen_BD).items():
        if (labels[name] != UNASKED).any():
            loss = loss + _ATTRIBUTE_WEIGHT * F.nll_loss(answers, labels[name], ignore_index=UNASKED)
    return loss


def contrast(seen_BD: Tensor, objects_B: Tensor) -> Tensor:
    """Supervised contrastive loss: negative log-likelihood of an image's partners, averaged over images with partners.

    The rows of `seen_BD` have length 1. Images with the same number in `objects_B` are partners: they show the same object.
    """
    is_other_BB = ~torch.eye(len(seen_BD), dtype=torch.bool, device=seen_BD.device)
    is_partner_BB = (objects_B.unsqueeze(0) == objects_B.unsqueeze(1)) & is_other_BB
    logits_BB = (seen_BD @ seen_BD.T / _TEMPERATURE).masked_fill(~is_other_BB, float("-inf"))
    surprise_BB = -logits_BB.log_softmax(dim=1).masked_fill(~is_partner_BB, 0)
    num_partners_B = is_partner_BB.sum(dim=1)
    has_partners_B = num_partners_B > 0
    return (surprise_BB.sum(dim=1)[has_partners_B] / num_partners_B[has_partners_B]).mean()


@torch.no_grad()
def readings(vit: Any, heads: nn.ModuleDict, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """Log-probabilities of every attribute of the object, (B, K) each."""
    return _answers(heads, F.normalize(features(vit, pixels_BCHW), dim=1))


def _answers(heads: nn.ModuleDict, seen_BD: Tensor) -> dict[str, Tensor]:
    scaled_BD = seen_BD * seen_BD.shape[1] ** 0.5
    return {name: head(scaled_BD).log_softmax(dim=1) for name, head in heads.items()}


@torch.no_grad()
def tells_apart(vit: Any, pixels_BCHW: Tensor, objects_B: Tensor, classes_B: Tensor) -> dict[str, float]:
    """How well similarity separates pairs of one object from pairs of two objects, as areas under the ROC curve (AUC).

    Compared with lookalikes (of the same group), with other objects of the class, and with objects of other classes; a
    comparison without pairs is omitted.
    """
    seen_BD = F.normalize(torch.cat([features(vit, batch) for batch in torch.split(pixels_BCHW, _BATCH)]), dim=1)
    similarity_BB = seen_BD @ seen_BD.T
    is_once_BB = torch.ones_like(similarity_BB, dtype=torch.bool).triu(diagonal=1)
    same_object_BB = objects_B.unsqueeze(0) == objects_B.unsqueeze(1)
    same_group_BB = objects_B.unsqueeze(0) // MEMBERS == objects_B.unsqueeze(1) // MEMBERS
    same_class_BB = classes_B.unsqueeze(0) == classes_B.unsqueeze(1)
    others = {
        "lookalikes": same_group_BB & ~same_object_BB,
        "its class": same_class_BB & ~same_object_BB,
        "other classes": ~same_class_BB,
    }
    same_M = similarity_BB[same_object_BB & is_once_BB]
    found = {name: similarity_BB[pairs_BB & is_once_BB] for name, pairs_BB in others.items()}
    return {name: auc(same_M, different_N) for name, different_N in found.items() if len(same_M) and len(different_N)}


def auc(high_M: Tensor, low_N: Tensor) -> float:
    """Probability that a number of `high_M` exceeds one of `low_N`; a tie counts half."""
    ordered_N = low_N.sort().values
    below_M = torch.searchsorted(ordered_N, high_M) + torch.searchsorted(ordered_N, high_M, right=True)
    return float(below_M.double().mean() / (2 * len(low_N)))
