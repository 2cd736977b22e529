"""The eye: a small vision transformer that takes the role of DINO for images of the world.

Its features of two images of the same object are similar, whatever the view, light and place; those of another object of the
class are less similar, and those of another class least. It only works for images of the world.
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

Input: pixels in [-1, 1], (B, 3, 64, 64). Feature: the state of the first token after the final layer norm, (B, 192), as for
DINO's ViT-S/16. Only the direction of a feature was trained, so compare features by cosine similarity.
"""
