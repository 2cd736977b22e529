"""The variants that are compared: flags of `dreambooth train` on top of the toybox preset."""

from __future__ import annotations

__all__ = ["DIFFUSERS", "VARIANTS"]

DIFFUSERS = "diffusers"
"""The variant that our training has no part in."""

_PREDICTION = ("--prior-target", "prediction")
_VARIED = ("--prior-prompts", "varied")
_PHOTOS = (*_PREDICTION, "--prior-examples", "photos")
_BOTH = (*_PREDICTION, "--prior-examples", "both")

VARIANTS: dict[str, tuple[str, ...]] = {
    DIFFUSERS: (),
    "noise": (),
    "none": ("--prior-weight", "0"),
    "prediction": _PREDICTION,
    "photos": _PHOTOS,
    "photos-varied": (*_PHOTOS, *_VARIED),
    "both": _BOTH,
    "both-varied": (*_BOTH, *_VARIED),
    "images-varied": (*_PREDICTION, *_VARIED),
    "photos-varied-w10": (*_PHOTOS, *_VARIED, "--prior-weight", "10"),
    "both-varied-w10": (*_BOTH, *_VARIED, "--prior-weight", "10"),
    "images-varied-w10": (*_PREDICTION, *_VARIED, "--prior-weight", "10"),
    "photos-varied-w30": (*_PHOTOS, *_VARIED, "--prior-weight", "30"),
    "both-varied-w30": (*_BOTH, *_VARIED, "--prior-weight", "30"),
    "photos-varied-w10-unet": (*_PHOTOS, *_VARIED, "--prior-weight", "10", "--no-train-text-encoder"),
    "photos-varied-w10-min-snr": (*_PHOTOS, *_VARIED, "--prior-weight", "10", "--min-snr-gamma", "5"),
    "noise-w10": ("--prior-weight", "10"),
}
