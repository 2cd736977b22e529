"""The prior of the DreamBooth paper, with which the published results were measured; the toybox preset has another one."""

from __future__ import annotations

__all__ = ["PAPER_PRIOR"]

PAPER_PRIOR = {"prior_examples": "images", "class_prompt": "photo of a {class_word}", "prior_weight": 1.0}
"""Class images of one prompt, whose target is the noise, with a weight of 1."""
