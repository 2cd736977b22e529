"""Trains one arm on one subject and measures it.

Shapes: P prompts, S images per prompt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth.measures.metrics import subject_cosines
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.files import JUDGE_FILE
from dreambooth.toybox.judge import ATTRIBUTES, load_judge
from dreambooth.toybox.world import PLACES
from experiments.photos.arms import ARMS, place_of, write_elsewhere, write_photos
from experiments.results.looking import Gallery, judges_in, number, photo_pixels
from experiments.results.runs import TOKENS, Place, Scale, train_at
from experiments.toybox.count import answers_about

__all__ = ["MEASURES", "measured"]

MEASURES = ("leaks", "obeys", "fidelity", "fidelity elsewhere")
"""`leaks`: share of the images of "photo of a sks vase" that show the place of the photos. `obeys`: share of the images in each
other place that show it. `fidelity`: likeness (DINO) of the former to photos of the subject in other places, none of which was
trained on; `fidelity elsewhere`: that of the latter."""

_NUM_PLAIN, _NUM_EACH = 16, 3
_SEED = 42
_SCALE = Scale(sampling_steps=25)


def measured(output: Path, arm: str, name: str, *, steps: int) -> dict[str, Any]:
    """Every measure of one arm on one subject, with its interval over images; kept in a file, and read from it if it exists."""
    file = output / "numbers" / f"{_file_name(arm)}-{name}-{steps}.json"
    if not file.is_file():
        found = _measure(output, arm, name, steps)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return numbers


def _measure(output: Path, arm: str, name: str, steps: int) -> dict[str, Any]:
    folder = _file_name(arm)
    photos = write_photos(output / "photos" / folder / name, name, ARMS[arm])
    run = output / "runs" / f"{folder}-{steps}" / name
    train_at(Place(output), _SCALE, name, run, "--photos", photos, "--crop", ARMS[arm].crop, "--steps", steps)
    gallery = Gallery(output / "pictures", _SCALE.sampling_steps, _SEED)
    words = f"photo of a {TOKENS[0]} {subject_look(name).class_word}"
    others = [place for place in PLACES if place != place_of(name)]
    plain_SCHW = gallery.shown(str(run), [words], _NUM_PLAIN)[0]
    elsewhere_PSCHW = gallery.shown(str(run), [f"{words} {PLACES[place]}" for place in others], _NUM_EACH)
    encoders = judges_in(output / "features")
    held_out_ND = encoders.features(encoders.dino, photo_pixels(write_elsewhere(output / "elsewhere" / name, name)))
    values = {
        "leaks": _shows(plain_SCHW, [place_of(name)] * _NUM_PLAIN)[None],
        "obeys": _shows(elsewhere_PSCHW.flatten(0, 1), [place for place in others for _ in range(_NUM_EACH)]),
        "fidelity": subject_cosines(encoders.features(encoders.dino, plain_SCHW), held_out_ND)[None],
        "fidelity elsewhere": subject_cosines(encoders.features(encoders.dino, elsewhere_PSCHW.flatten(0, 1)), held_out_ND),
    }
    return {measure: number(values_PS.view(-1, values_PS.shape[-1]), measure) for measure, values_PS in values.items()}


def _file_name(arm: str) -> str:
    return arm.replace(" ", "-").replace(":", "-")


def _shows(images_NCHW: Tensor, places: list[str]) -> Tensor:
    """Which images show their place, by the judge, (N,) of 0 and 1."""
    answers_N = answers_about(load_judge(JUDGE_FILE), images_NCHW)["place"].argmax(dim=1)
    return (answers_N == torch.tensor([ATTRIBUTES["place"].index(place) for place in places])).double()
