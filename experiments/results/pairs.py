"""Two subjects in one model: trained one after the other, and both at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreambooth.measures.metrics import confusion_matrix, subject_cosines
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.world import PLACES
from experiments.results.looking import Gallery, judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Pair, Place, Scale

__all__ = ["MODELS", "measure_models", "measure_pair"]

MODELS = {
    "alone": ("alone-1", "alone-2"),
    "first, then second": ("consecutive", "consecutive"),
    "both at once": ("joint", "joint"),
}
"""Maps each method to the runs with the first and the second subject."""

_SEED = 42


def measure_pair(place: Place, scale: Scale, pair: Pair) -> dict[str, Any]:
    """The measures of `measure_models` for every method."""
    folder = place.of_pair(pair)
    models = {title: (str(folder / first), str(folder / second)) for title, (first, second) in MODELS.items()}
    return measure_models(place, scale, pair, models)


def measure_models(place: Place, scale: Scale, pair: Pair, models: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """DINO and CLIP-I of both subjects in every model, PRES of their classes, and which subject images resemble most.

    `models` maps each method to the models with the first and the second subject.
    """
    encoders = judges_in(place.output / "features")
    gallery = Gallery(place.output / "pictures", scale.sampling_steps, _SEED)
    photos = [photo_pixels(place.photos(name)) for name in pair.subjects]
    dino_photos = [encoders.features(encoders.dino, pixels) for pixels in photos]
    clip_photos = [encoders.features(encoders.clip, pixels) for pixels in photos]
    record: dict[str, Any] = {"pair": list(pair.subjects), "models": {}}
    for title, both in models.items():
        subjects, generated = {}, []
        for number_of, (name, model) in enumerate(zip(pair.subjects, both, strict=True)):
            word = subject_look(name).class_word
            prompts = [
                f"photo of a {TOKENS[number_of]} {word}{where}"
                for where in ("", *(f" {place_words}" for place_words in PLACES.values()))
            ]
            pictures_PSCHW = gallery.shown(model, prompts, scale.num_images)
            class_SCHW = gallery.shown(model, [f"photo of a {word}"], scale.num_class_images)[0]
            dino_ND = encoders.features(encoders.dino, pictures_PSCHW.flatten(0, 1))
            clip_ND = encoders.features(encoders.clip, pictures_PSCHW.flatten(0, 1))
            generated.append(dino_ND)
            values = {
                "DINO": _by_prompt(subject_cosines(dino_ND, dino_photos[number_of]), pictures_PSCHW),
                "CLIP-I": _by_prompt(subject_cosines(clip_ND, clip_photos[number_of]), pictures_PSCHW),
                "PRES": subject_cosines(encoders.features(encoders.dino, class_SCHW), dino_photos[number_of])[None],
            }
            subjects[name] = {measure: number(values_PS, measure) for measure, values_PS in values.items()}
        record["models"][title] = {
            "subjects": subjects,
            "confusion": confusion_matrix(generated, dino_photos).tolist(),
        }
    return record


def _by_prompt(values_N: Tensor, pictures_PSCHW: Tensor) -> Tensor:
    return values_N.view(torch.Size(pictures_PSCHW.shape[:2]))
