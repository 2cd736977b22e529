"""Whether a model knows the small rendered world of the bundled model: what it says about itself decides, never a size."""

from __future__ import annotations

from dreambooth.toybox.judge import SIDE
from dreambooth.weights.model_weights import ModelWeights, recorded_inputs

__all__ = ["BUNDLED_DIGEST", "TRAINED_ON", "draws_toybox", "inherited_metadata"]

TRAINED_ON = "dreambooth.trained_on"
"""Metadata key that says which pictures a model learned from; training and conversion hand it on."""

BUNDLED_DIGEST = "4d66d479ea0ff0aa0a43b0d8dbd2d22c270dc659705cb0ce2b4a2e5e07358570"
"""Of the bundled model, for files of it that lost their metadata."""

_TOYBOX_PICTURES = "rendered pictures of dreambooth.toybox"


def draws_toybox(model: ModelWeights) -> bool:
    """Whether the model's images show the small world at the size that the world's judge and encoders know."""
    return model.family.resolution == SIDE and _knows_toybox(model)


def inherited_metadata(base: ModelWeights) -> dict[str, str]:
    """What a model that is trained from `base` says about itself because `base` does."""
    return {TRAINED_ON: _TOYBOX_PICTURES} if _knows_toybox(base) else {}


def _knows_toybox(model: ModelWeights) -> bool:
    if model.metadata.get(TRAINED_ON) == _TOYBOX_PICTURES:
        return True
    return recorded_inputs(model.metadata).get("base model") == BUNDLED_DIGEST or model.digest() == BUNDLED_DIGEST
