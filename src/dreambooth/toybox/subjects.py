"""Subjects: objects that no caption can describe, so a model can only learn them from photos.

Ten subjects in eight classes are fixed; each has training photos and held-out photos for evaluation. A generator makes new
subjects from a seed, so that nothing can be tuned to the ten.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import CLASSES, COLOURS, ORDINARY_PATTERNS, PLACES, Look, Scene, random_view

__all__ = ["HELD_OUT_SEED", "PHOTO_SEED", "SUBJECTS", "SUBJECT_PATTERNS", "individuals", "random_subject", "subject_scenes"]

SUBJECT_PATTERNS = tuple(name for name in PATTERNS if name not in ORDINARY_PATTERNS)

SUBJECTS: dict[str, Look] = {
    "banded-container": Look("container", "banded", "blue", "yellow", "red"),
    "zigzag-mug": Look("mug", "zigzag", "purple", "orange", "green"),
    "marked-ball": Look("ball", "marked", "white", "red", "white"),
    "belted-vase": Look("vase", "belted", "green", "white", "green", 1.05),
    "crossed-teapot": Look("teapot", "crossed", "yellow", "purple", "blue"),
    "upright-lamp": Look("lamp", "upright", "red", "white", "blue"),
    "banded-car": Look("car", "banded", "orange", "black", "white"),
    "zigzag-cone": Look("cone", "zigzag", "blue", "white", "orange"),
    "upright-mug": Look("mug", "upright", "black", "yellow", "white", 0.95),
    "marked-container": Look("container", "marked", "green", "purple", "orange"),
}
"""Name to the fixed subject."""

PHOTO_SEED = 1
"""Seed of the scenes of a subject's training photos."""

HELD_OUT_SEED = 2
"""Seed of the scenes of held-out photos, used for evaluation only."""

_PHOTO_STREAM, _LOOK_STREAM, _INDIVIDUAL_SEED = 101, 102, 2022


def random_subject(seed: int, class_word: str | None = None) -> Look:
    """The subject for a seed: a pattern that has no word, two colors, and a third color for the accent."""
    random = np.random.default_rng([_LOOK_STREAM, seed])
    drawn = str(random.choice(CLASSES))
    primary, secondary, accent = (str(name) for name in random.choice(list(COLOURS), size=3, replace=False))
    pattern = str(random.choice(SUBJECT_PATTERNS))
    stretch = float(random.uniform(0.92, 1.1))
    return Look(drawn if class_word is None else class_word, pattern, primary, secondary, accent, stretch)


def subject_scenes(look: Look, *, num: int, seed: int) -> tuple[Scene, ...]:
    """`num` scenes with the same object in different views and lights, and in different places while there are enough."""
    random = np.random.default_rng([_PHOTO_STREAM, seed])
    places = [str(place) for place in random.permutation(list(PLACES))]
    return tuple(Scene(look, places[index % len(places)], random_view(random)) for index in range(num))


@cache
def individuals() -> dict[str, Look]:
    """The named individuals of the world. They give rare words a meaning, as names have in captions from the web."""
    lines = (Path(__file__).parent / "names.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    return {name: random_subject(_INDIVIDUAL_SEED + number) for number, name in enumerate(names)}
