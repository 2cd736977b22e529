"""Trains one variant on one subject and measures the subject, the prompts and the class, picture by picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreambooth.data.prior_prompts import class_prompts
from dreambooth.data.settings import PriorSettings
from dreambooth.evaluation.dataset import TOYBOX_COLOURS
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.toybox.judge import SIDE
from dreambooth.toybox.world import PLACES
from experiments.keeping.diffusers_loop import Job, train_like_diffusers
from experiments.keeping.variants import DIFFUSERS, VARIANTS
from experiments.paper import PRESET_RATE
from experiments.results.looking import judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Place, Scale, train_at, type_command
from experiments.results.subject import show, values_of

__all__ = ["SCALE", "measure", "measure_model"]

SCALE = Scale(sampling_steps=25)
"""The amount of work behind the published numbers."""


def measure(output: Path, variant: str, name: str, scale: Scale) -> dict[str, Any]:
    """Every measure of one variant on one subject; see `measure_model`."""
    place = Place(output)
    run = output / "runs" / variant / name
    if variant == DIFFUSERS:
        _train_with_diffusers(place, scale, name, run)
    else:
        train_at(place, scale, name, run, *VARIANTS[variant], "--steps", scale.steps)
    return measure_model(place, scale, name, str(run))


def measure_model(place: Place, scale: Scale, name: str, model: str) -> dict[str, Any]:
    """Every measure of a model that learned the subject as the first token, as a mean over pictures with its interval.

    "unseen place" and "unseen color" count only those that no prompt of `--prior-prompts varied` names. The base model is
    shown the class, for it knows no token.
    """
    word, encoders = subject_look(name).class_word, judges_in(place.output / "features")
    photos_NCHW = photo_pixels(place.photos(name))
    base = show(place, scale, EMBEDDED_MODEL, word, "")
    shown = base if model == EMBEDDED_MODEL else show(place, scale, model, word, TOKENS[0])
    values = values_of(encoders, shown, base, photos_NCHW, word)
    values["unseen place"] = values["place by the judge"][_not_in_prompts([*PLACES.values()])]
    values["unseen color"] = values["colour by the judge"][_not_in_prompts([f" {color} " for color in TOYBOX_COLOURS])]
    return {measure: number(values_PS, measure) for measure, values_PS in values.items()}


def _not_in_prompts(words: Sequence[str]) -> list[int]:
    """Which of the words no prompt of `--prior-prompts varied` contains."""
    prompts = class_prompts(PriorSettings(prior_prompts="varied"))
    return [index for index, word in enumerate(words) if not any(word in prompt for prompt in prompts)]


def _train_with_diffusers(place: Place, scale: Scale, name: str, folder: Path) -> None:
    """The same model, photos, class images, rate, batch and number of steps, by diffusers' way of training."""
    if (folder / "model_index.json").is_file():
        return
    word, model = subject_look(name).class_word, place.output / "toybox"
    asked = ["--model", EMBEDDED_MODEL, "--class-word", word, "--prior-folder", str(place.class_images)]
    size = ["--num-prior-images", str(scale.num_prior_images), "--prior-sampling-steps", str(scale.prior_sampling_steps)]
    type_command("prior", *asked, *size, "--prior-guidance-scale", "2.5")  # as the preset does
    if not model.is_dir():
        type_command("convert", EMBEDDED_MODEL, str(model))
    job = Job(
        model=model,
        photos=place.photos(name),
        class_images=_images_of(place.class_images, f"photo of a {word}"),
        instance_prompt=f"photo of a {TOKENS[0]} {word}",
        class_prompt=f"photo of a {word}",
        resolution=SIDE,
        learning_rate=PRESET_RATE,
        batch_size=2,
        steps=scale.steps,
        seed=0,
    )
    train_like_diffusers(job, folder)


def _images_of(folder: Path, prompt: str) -> Path:
    """The set of class images with this prompt."""
    return next(
        file.parent
        for file in sorted(folder.glob("*/*.json"))
        if json.loads(file.read_text(encoding="utf-8")).get("request", {}).get("prompt") == prompt
    )
