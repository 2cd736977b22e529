"""The words of the toybox world, and the records that describe an image of it completely.

Coordinates: y is up and the ground is y = 0; an object stands on it at the origin and is about one unit tall. The camera looks
along -z. The object rotates; the camera only changes its height, its distance and its sideways offset. Angles are in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = [
    "CLASSES",
    "COLOURS",
    "ORDINARY_PATTERNS",
    "PLACES",
    "Look",
    "Scene",
    "View",
    "random_look",
    "random_scene",
    "random_view",
]

CLASSES = ("container", "mug", "ball", "teapot", "vase", "chair", "lamp", "car", "house", "cone")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.07, 0.07),
    "orange": (0.95, 0.45, 0.03),
    "yellow": (0.95, 0.83, 0.07),
    "green": (0.06, 0.52, 0.12),
    "blue": (0.08, 0.18, 0.85),
    "purple": (0.48, 0.08, 0.62),
    "white": (0.95, 0.95, 0.95),
    "black": (0.04, 0.04, 0.05),
}
"""Name to linear red, green and blue in [0, 1]."""

ORDINARY_PATTERNS = ("plain", "striped", "dotted", "checked")
"""Patterns that a caption can name; subjects have others (`subjects.py`)."""

PLACES: dict[str, str] = {
    "beach": "on the beach",
    "moon": "on the moon",
    "snow": "in the snow",
    "grass": "on the grass",
    "desert": "in the desert",
    "city": "in a city at night",
    "table": "on a wooden table",
    "road": "on the road",
}
"""Key to the words in captions."""


@dataclass(frozen=True)
class Look:
    """The appearance of an object: equal looks mean the same individual."""

    class_word: str
    pattern: str
    primary: str
    """Color of the body; captions name it first."""
    secondary: str
    """Second color of the pattern; not visible on a plain body."""
    accent: str
    """Color of the accent part: lid, handle, legs, roof or base."""
    stretch: float = 1.0
    """Height relative to that of the class."""


@dataclass(frozen=True)
class View:
    """Camera and light of an image."""

    turn: float
    """Rotation of the object about the vertical axis."""
    elevation: float
    """Angle by which the camera looks down."""
    distance: float
    aside: float
    """Offset of the object to the right of the center, in units."""
    light_turn: float
    """Direction of the light about the vertical axis; 0 is from behind the camera."""
    light_elevation: float
    texture: int
    """Seed of the ground, the clouds, the stars."""


@dataclass(frozen=True)
class Scene:
    """A complete description of an image, which is its ground truth."""

    look: Look
    place: str
    view: View


def random_look(random: np.random.Generator, class_word: str | None = None) -> Look:
    """A random object that a caption can describe."""
    primary, secondary, other = (str(name) for name in random.choice(list(COLOURS), size=3, replace=False))
    accent = str(random.choice([primary, secondary, other, "white", "black"], p=(0.6, 0.1, 0.1, 0.1, 0.1)))
    return Look(
        class_word=str(random.choice(CLASSES)) if class_word is None else class_word,
        pattern=str(random.choice(ORDINARY_PATTERNS, p=(0.55, 0.15, 0.15, 0.15))),
        primary=primary,
        secondary=secondary,
        accent=accent,
        stretch=float(random.uniform(0.88, 1.14)),
    )


def random_view(random: np.random.Generator) -> View:
    """A random camera that sees the object (a spout or corner may be cut off), with light from the camera's side."""
    return View(
        turn=float(random.uniform(0, 2 * math.pi)),
        elevation=float(random.uniform(0.12, 0.30)),
        distance=float(random.uniform(2.5, 3.4)),
        aside=float(random.uniform(-0.28, 0.28)),
        light_turn=float(random.uniform(-1.2, 1.2)),
        light_elevation=float(random.uniform(0.6, 1.1)),
        texture=int(random.integers(2**31)),
    )


def random_scene(random: np.random.Generator) -> Scene:
    """An ordinary object in a random place and view."""
    return Scene(look=random_look(random), place=str(random.choice(list(PLACES))), view=random_view(random))
