"""Measures one subject: how well it was learned, how its class changed, and whether prompts still work.

Shapes: S images per prompt, P prompts, C channels, H and W sizes in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dreambooth.evaluation.dataset import TOYBOX_COLOURS
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.measures.metrics import cosines, div_parts, drifts, own_cosine, subject_cosines
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.files import EMBEDDED_MODEL, JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, load_judge
from dreambooth.toybox.world import PLACES
from experiments.results.looking import Gallery, judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Place, Scale
from experiments.toybox.count import answers_about

__all__ = ["BASE", "WITH", "WITHOUT", "Shown", "measure_subject", "models_of", "show", "values_of"]

BASE, WITH, WITHOUT = "base model", "prior weight 1", "prior weight 0"
_SEED = 42  # the benchmark's, so that its images can be reused


@dataclass(frozen=True)
class Shown:
    """Images of one subject by a model; all pixels in [0, 1]."""

    plain_SCHW: Tensor
    """The subject without anything else."""
    places_PSCHW: Tensor
    """In every place."""
    colors_PSCHW: Tensor
    """In four colors."""
    class_SCHW: Tensor
    """The class alone."""


def measure_subject(place: Place, scale: Scale, name: str) -> dict[str, Any]:
    """Scores of the base model and both trained models, and their differences, image by image."""
    word, encoders = subject_look(name).class_word, judges_in(place.output / "features")
    photos_NCHW = photo_pixels(place.photos(name))
    models = models_of(place, name)
    shown = {kind: show(place, scale, model, word, "" if kind == BASE else TOKENS[0]) for kind, model in models.items()}
    values = {kind: values_of(encoders, images, shown[BASE], photos_NCHW, word) for kind, images in shown.items()}
    return {
        "subject": name,
        "class_word": word,
        "photos": {
            title: own_cosine(encoders.features(encoder, photos_NCHW))
            for title, encoder in (("DINO", encoders.dino), ("CLIP-I", encoders.clip))
        },
        "measures": {
            kind: {measure: number(values_PS, measure) for measure, values_PS in measures.items()}
            for kind, measures in values.items()
        },
        "learned": _differences(values[WITH], values[BASE], ("DINO", "CLIP-I", "DINO in places")),
        "kept": _differences(values[WITH], values[WITHOUT], ("PRES", "drift", "DIV")),
    }


def models_of(place: Place, name: str) -> dict[str, str]:
    """The base model and the two models trained on the subject."""
    return {
        BASE: EMBEDDED_MODEL,
        WITH: str(place.learned_with_prior(name, 1)),
        WITHOUT: str(place.learned_with_prior(name, 0)),
    }


def show(place: Place, scale: Scale, model: str, class_word: str, token: str) -> Shown:
    """Generate a model's images of the subject; without a token, of its class."""
    gallery, words = Gallery(place.output / "pictures", scale.sampling_steps, _SEED), f"{token} {class_word}".strip()
    few, many = scale.num_images, scale.num_class_images
    return Shown(
        gallery.shown(model, [f"photo of a {words}"], many)[0],
        gallery.shown(model, [f"photo of a {words} {where}" for where in PLACES.values()], few),
        gallery.shown(model, [f"photo of a {color} {words}" for color in TOYBOX_COLOURS], few),
        gallery.shown(model, [f"photo of a {class_word}"], many)[0],
    )


def values_of(encoders: Encoders, shown: Shown, base: Shown, photos_NCHW: Tensor, word: str) -> dict[str, Tensor]:
    """Every score image by image, (prompts, images per prompt); `base` are the base model's images of the class."""
    dino, clip = encoders.dino, encoders.clip
    dino_photos, clip_photos = encoders.features(dino, photos_NCHW), encoders.features(clip, photos_NCHW)
    places_NCHW = shown.places_PSCHW.flatten(0, 1)
    class_features, base_features = (encoders.features(dino, images.class_SCHW) for images in (shown, base))
    assert encoders.distance is not None, "the bundled encoders have a distance"
    num_each = shown.places_PSCHW.shape[1]
    return {
        "DINO": subject_cosines(encoders.features(dino, shown.plain_SCHW), dino_photos)[None],
        "CLIP-I": subject_cosines(encoders.features(clip, shown.plain_SCHW), clip_photos)[None],
        "DINO in places": subject_cosines(encoders.features(dino, places_NCHW), dino_photos).view(-1, num_each),
        "PRES": subject_cosines(class_features, dino_photos)[None],
        "drift": drifts(base_features, class_features)[None],
        "DIV": div_parts(encoders.distance.between(shown.class_SCHW)[None]),
        "place by CLIP": _by_clip(encoders, shown.places_PSCHW, [f"photo of a {word} {where}" for where in PLACES.values()]),
        "place by the judge": _by_the_judge(shown.places_PSCHW, "place", list(PLACES)),
        "colour by CLIP": _by_clip(encoders, shown.colors_PSCHW, [f"photo of a {color} {word}" for color in TOYBOX_COLOURS]),
        "colour by the judge": _by_the_judge(shown.colors_PSCHW, "primary", TOYBOX_COLOURS),
    }


def _by_clip(encoders: Encoders, pictures_PSCHW: Tensor, texts: Sequence[str]) -> Tensor:
    """Which images are nearest to their own text, (P, S) of 0 and 1."""
    likeness_NP = cosines(encoders.features(encoders.clip, pictures_PSCHW.flatten(0, 1)), encoders.clip.encode_text(texts))
    return _right(likeness_NP.argmax(dim=1), list(range(len(texts))), pictures_PSCHW)


def _by_the_judge(pictures_PSCHW: Tensor, attribute: str, words: Sequence[str]) -> Tensor:
    """For which images the judge's class is the word in the prompt, among all its classes, (P, S) of 0 and 1."""
    answers = answers_about(load_judge(JUDGE_FILE), pictures_PSCHW.flatten(0, 1))[attribute]
    return _right(answers.argmax(dim=1), [ATTRIBUTES[attribute].index(word) for word in words], pictures_PSCHW)


def _right(answers_N: Tensor, expected: Sequence[int], pictures_PSCHW: Tensor) -> Tensor:
    num_prompts, num_each = pictures_PSCHW.shape[:2]
    return (answers_N.view(num_prompts, num_each) == torch.tensor(expected)[:, None]).double()


def _differences(first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Differences between images from the same noise, which cancels the effect of the noise."""
    return {name: number(first[name] - second[name], name) for name in names}
