"""Subjects: objects that no caption can describe, so that only photos can teach them.

Ten are fixed, over eight classes, and have photos to learn from and held-out photos to be measured by. A generator makes new
ones from a number, so that nothing can be tuned to the ten.
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
"""Seed of the scenes in which a subject is photographed to be learned."""

HELD_OUT_SEED = 2
"""Seed of the scenes that only measure."""

_PHOTO_STREAM, _LOOK_STREAM, _INDIVIDUAL_SEED = 101, 102, 2022


def random_subject(seed: int, class_word: str | None = None) -> Look:
    """The subject with this number: a pattern without a word, two colours and a third one for the part that is told apart."""
    random = np.random.default_rng([_LOOK_STREAM, seed])
    drawn = str(random.choice(CLASSES))
    primary, secondary, accent = (str(name) for name in random.choice(list(COLOURS), size=3, replace=False))
    pattern = str(random.choice(SUBJECT_PATTERNS))
    stretch = float(random.uniform(0.92, 1.1))
    return Look(drawn if class_word is None else class_word, pattern, primary, secondary, accent, stretch)


def subject_scenes(look: Look, *, num: int, seed: int) -> tuple[Scene, ...]:
    """`num` scenes with the same object, each in another place (as far as there are places), view and light."""
    random = np.random.default_rng([_PHOTO_STREAM, seed])
    places = [str(place) for place in random.permutation(list(PLACES))]
    return tuple(Scene(look, places[index % len(places)], random_view(random)) for index in range(num))


@cache
def individuals() -> dict[str, Look]:
    """The named individuals of the world: they give rare words a voice, as names have in captions of the web."""
    lines = (Path(__file__).parent / "names.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    return {name: random_subject(_INDIVIDUAL_SEED + number) for number, name in enumerate(names)}
