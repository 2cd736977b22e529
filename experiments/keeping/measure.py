"""Trains one variant on one subject and measures the subject, the prompts and the class, picture by picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.files import EMBEDDED_MODEL
from experiments.keeping.variants import VARIANTS
from experiments.results.looking import judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Place, Scale, train_at
from experiments.results.subject import show, values_of

__all__ = ["SCALE", "measure"]

SCALE = Scale(sampling_steps=25)
"""The amount of work behind the published numbers."""


def measure(output: Path, variant: str, name: str, scale: Scale) -> dict[str, Any]:
    """Every measure of one variant on one subject, as a mean over pictures with its interval."""
    place, word = Place(output), subject_look(name).class_word
    run = output / "runs" / variant / name
    train_at(place, scale, name, run, *VARIANTS[variant], "--steps", scale.steps)
    encoders, photos_NCHW = judges_in(output / "features"), photo_pixels(place.photos(name))
    base = show(place, scale, EMBEDDED_MODEL, word, "")
    shown = show(place, scale, str(run), word, TOKENS[0])
    values = values_of(encoders, shown, base, photos_NCHW, word)
    return {measure: number(values_PS, measure) for measure, values_PS in values.items()}
