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

__all__ = ["measure"]

_SCALE = Scale(sampling_steps=25)


def measure(output: Path, variant: str, name: str) -> dict[str, Any]:
    """Every measure of one variant on one subject, as a mean over pictures with its interval."""
    place, word = Place(output), subject_look(name).class_word
    run = output / "runs" / variant / name
    train_at(place, _SCALE, name, run, *VARIANTS[variant], "--steps", _SCALE.steps)
    encoders, photos_NCHW = judges_in(output / "features"), photo_pixels(place.photos(name))
    base = show(place, _SCALE, EMBEDDED_MODEL, word, "")
    shown = show(place, _SCALE, str(run), word, TOKENS[0])
    values = values_of(encoders, shown, base, photos_NCHW, word)
    return {measure: number(values_PS, measure) for measure, values_PS in values.items()}
