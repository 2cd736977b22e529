"""The words of the small world, and the records that say everything a picture of it shows.

Coordinates: y is up, the ground is y = 0, an object stands on it at the origin and is about one unit tall. The camera looks
along -z; an object turns, the camera only rises, comes nearer and looks aside. Angles are in radians.
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
"""Those that a caption can name; subjects have others (`subjects.py`)."""

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
"""Key to the words of a caption."""


@dataclass(frozen=True)
class Look:
    """An object, apart from where it is seen: the same `Look` is the same individual."""

    class_word: str
    pattern: str
    primary: str
    """Colour of the body, the one that a caption names first."""
    secondary: str
    """Second colour of the pattern; a plain body does not show it."""
    accent: str
    """Colour of the part that is told apart: lid, handle, legs, roof, base."""
    stretch: float = 1.0
    """Height against that of the class."""


@dataclass(frozen=True)
class View:
    """How a picture is taken: camera and light."""

    turn: float
    """The object's rotation about the vertical."""
    elevation: float
    """How far the camera looks down."""
    distance: float
    aside: float
    """How far right of the middle the object stands, in units."""
    light_turn: float
    """Direction of the light about the vertical; 0 is from behind the camera."""
    light_elevation: float
    texture: int
    """Seed of the ground, the clouds, the stars."""


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows, and so the ground truth about it."""

    look: Look
    place: str
    view: View


def random_look(random: np.random.Generator, class_word: str | None = None) -> Look:
    """An object whose looks a caption can describe."""
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
    """A camera that sees the object, all of it but for some spout or corner now and then, and a light from its own side."""
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
    """An ordinary object somewhere."""
    return Scene(look=random_look(random), place=str(random.choice(list(PLACES))), view=random_view(random))
