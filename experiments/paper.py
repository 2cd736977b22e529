"""What the published results were measured with, in the DreamBooth paper's way; the toybox preset has another prior."""

from __future__ import annotations

__all__ = ["PAPER_PRIOR", "PRESET_RATE", "TEXT_RATE"]

PAPER_PRIOR = {"prior_examples": "images", "class_prompt": "photo of a {class_word}", "prior_weight": 1.0}
"""Class images of one prompt, whose target is the noise, with a weight of 1."""

PRESET_RATE = 2e-4
"""Learning rate of the preset `toybox`, in the paper also of the text encoder."""

TEXT_RATE = "--text-encoder-learning-rate"
"""The flag of a rate that the preset sets lower."""
