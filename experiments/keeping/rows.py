"""Subjects learned one after the other: how much of each is left after those that followed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dreambooth.measures.metrics import confusion_matrix, subject_cosines
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.world import PLACES
from experiments.keeping.variants import PRESET, VARIANTS
from experiments.results.looking import Gallery, judges_in, number, photo_pixels
from experiments.results.runs import Place, Scale, train_at

__all__ = ["ROWS", "measure_row", "row_table"]

ROWS = (
    ("marked-ball", "belted-vase"),
    ("belted-vase", "crossed-teapot"),
    ("crossed-teapot", "marked-ball"),
    ("banded-container", "marked-container"),
    ("zigzag-mug", "upright-mug"),
    ("marked-ball", "belted-vase", "crossed-teapot"),
)
"""Five ordered pairs, two of them of one class, and three subjects."""

_TOKENS = ("sks", "zwx", "mwf")
_SEED = 42


def measure_row(output: Path, names: Sequence[str], scale: Scale) -> dict[str, Any]:
    """After every subject of a row: DINO of all subjects up to it, and the shares of images taken for each of them.

    The first is trained by the preset, the others on top of the model before, as `dreambooth train --model` does by default.
    """
    place = Place(output)
    encoders = judges_in(output / "features")
    gallery = Gallery(output / "pictures", scale.sampling_steps, _SEED)
    photos_MD = [encoders.features(encoders.dino, photo_pixels(place.photos(name))) for name in names]
    stages = []
    for count in range(1, len(names) + 1):
        model = _learn(place, scale, names[:count])
        features, dino = [], {}
        for name, token, own_MD in zip(names[:count], _TOKENS, photos_MD, strict=False):
            pictures_PSCHW = gallery.shown(str(model), _prompts(token, name), scale.num_images)
            features.append(encoders.features(encoders.dino, pictures_PSCHW.flatten(0, 1)))
            values_PS = subject_cosines(features[-1], own_MD).view(torch.Size(pictures_PSCHW.shape[:2]))
            dino[name] = number(values_PS, name)
        stages.append({"DINO": dino, "confusion": confusion_matrix(features, photos_MD[:count]).tolist()})
    return {"subjects": list(names), "stages": stages}


def row_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each earlier subject: its DINO when it was learned and at the end, and how often it is taken for another."""
    titles = ("in a row", "subject", "DINO when learned", "DINO at the end", "share kept", "taken for another")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in rows:
        names, last = row["subjects"], row["stages"][-1]
        for place, name in enumerate(names):
            learned, kept = row["stages"][place]["DINO"][name], last["DINO"][name]
            cells = (
                *(", ".join(names), name, _interval(learned), _interval(kept)),
                *(f"{kept['value'] / learned['value']:.0%}", f"{1 - last['confusion'][place][place]:.0%}"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _learn(place: Place, scale: Scale, names: Sequence[str]) -> Path:
    """The run of the last of `names`, which begins with the model of those before."""
    runs = place.output / "runs"
    if len(names) == 1:
        run = runs / PRESET / names[0]
        train_at(place, scale, names[0], run, *VARIANTS[PRESET], "--steps", scale.steps)
        return run
    before, run = _learn(place, scale, names[:-1]), runs / "rows" / "+".join(names)
    later = ("--model", before, "--token", _TOKENS[len(names) - 1], "--prior-folder", run.parent / "class-images")
    train_at(place, scale, names[-1], run, *later, "--steps", scale.steps)
    return run


def _prompts(token: str, name: str) -> list[str]:
    words = f"photo of a {token} {subject_look(name).class_word}"
    return [words, *(f"{words} {where}" for where in PLACES.values())]


def _interval(score: dict[str, float]) -> str:
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
