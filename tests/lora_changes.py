"""Random LoRA changes of a model, for tests."""

from __future__ import annotations

import torch

from dreambooth.diffusion.low_rank import Change, LowRank, row_norms
from dreambooth.diffusion.randomness import normal
from dreambooth.families.family import LoraTargets
from dreambooth.weights.lora_write import LayerChanges
from dreambooth.weights.model_weights import ModelWeights


def random_changes(
    model: ModelWeights, targets: LoraTargets, *, rank: int = 2, alpha: float = 3.0, has_norms: bool = False, seed: int = 0
) -> LayerChanges:
    """Changes of the UNet and the text encoder that are not small."""
    found: dict[str, dict[str, Change]] = {}
    for part in ("unet", "text_encoder"):
        for layer in model.family.lora_targets(part, targets):
            weight = model.parts[part][f"{layer}.weight"]
            kernel, ones = weight.shape[2:], [1] * (weight.ndim - 2)
            down = normal((rank, weight.shape[1], *kernel), seed, part, layer, "down") / (weight[0].numel() ** 0.5)
            up = 0.3 * normal((weight.shape[0], rank, *ones), seed, part, layer, "up")
            norms = row_norms(weight).flatten() * (1 + 0.2 * torch.rand(len(weight))) if has_norms else None
            change = Change(LowRank(down, up, alpha), norms, strength_is_inside=True)
            found.setdefault(part, {})[layer] = change
    return found
