"""The eye: a small vision transformer that plays the part of DINO for pictures of the world.

Two pictures of the same object are near in its features, whatever the view, the light and the place; another object of the
class is farther, and another class farthest. It knows pictures of the world only.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EYE"]

EYE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 64,
    "patch_size": 8,
}
"""The eye, as transformers' ViTConfig describes it.

It takes pixels in [-1, 1], (B, 3, 64, 64). Its feature is the state of the first token after the final layer norm, (B, 192),
as that of DINO's ViT-S/16 is. Only directions were trained: features are compared by their cosine.
"""
