"""The variants that are compared: flags of `dreambooth train` on top of the toybox preset."""

from __future__ import annotations

import itertools

from experiments.paper import PAPER_PRIOR, PRESET_RATE, TEXT_RATE

__all__ = ["DIFFUSERS", "LORA", "PRESET", "VARIANTS"]

DIFFUSERS = "diffusers"
"""The variant that our training has no part in."""

PRESET = "both-varied-w10-text-5e-5"
"""The variant that the toybox preset is."""

LORA = f"{PRESET}-lora-16"
"""The preset as a LoRA of rank 16, at the rate that `experiments.lora` chose for another subject."""

_PREDICTION = ("--prior-target", "prediction")
_VARIED = ("--prior-prompts", "varied")
_PHOTOS = (*_PREDICTION, "--prior-examples", "photos")
_BOTH = (*_PREDICTION, "--prior-examples", "both")

_CHOICES: dict[str, tuple[str, ...]] = {
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
    "both-varied-w10-unet": (*_BOTH, *_VARIED, "--prior-weight", "10", "--no-train-text-encoder"),
    "both-varied-w10-text-5e-5": (*_BOTH, *_VARIED, "--prior-weight", "10", "--text-encoder-learning-rate", "5e-5"),
    "both-varied-w10-text-2e-5": (*_BOTH, *_VARIED, "--prior-weight", "10", "--text-encoder-learning-rate", "2e-5"),
    LORA: (
        *(*_BOTH, *_VARIED, "--prior-weight", "10", "--text-encoder-learning-rate", "5e-5"),
        *("--trainee", "lora", "--rank", "16", "--learning-rate", "5e-4"),
    ),
    "photos-varied-w10-text-5e-5": (*_PHOTOS, *_VARIED, "--prior-weight", "10", "--text-encoder-learning-rate", "5e-5"),
    "both-varied-w10-min-snr": (*_BOTH, *_VARIED, "--prior-weight", "10", "--min-snr-gamma", "5"),
    "both-varied-w10-ema": (*_BOTH, *_VARIED, "--prior-weight", "10", "--ema-decay", "0.99"),
    "both-varied-w10-1e-4": (
        *_BOTH,
        *_VARIED,
        "--prior-weight",
        "10",
        "--learning-rate",
        "1e-4",
        "--text-encoder-learning-rate",
        "1e-4",
    ),
    "noise-w10": ("--prior-weight", "10"),
}


_REPLACED_BY = {"class_prompt": "--prior-prompts"}


def _on_top_of_the_paper(flags: tuple[str, ...]) -> tuple[str, ...]:
    """What `flags` leave open is as in the paper, whatever the preset says: one rate for the UNet and the text encoder."""
    rate = () if {TEXT_RATE, "--no-train-text-encoder"} & {*flags} else (TEXT_RATE, str(PRESET_RATE))
    if ("--prior-weight", "0") in itertools.pairwise(flags):
        return (*flags, *rate)
    missing = {name: value for name, value in PAPER_PRIOR.items() if _REPLACED_BY.get(name, _flag(name)) not in flags}
    return (*flags, *(word for name, value in missing.items() for word in (_flag(name), str(value))), *rate)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


VARIANTS = {name: _on_top_of_the_paper(flags) for name, flags in _CHOICES.items()}
