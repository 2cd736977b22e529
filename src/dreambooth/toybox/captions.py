"""Captions for images of the world: everyday words, some of which are omitted at random."""

from __future__ import annotations

import numpy as np

from dreambooth.toybox.world import PLACES, Look, Scene

__all__ = ["caption", "describe"]

_OPENINGS = ("photo of", "a photo of", "a picture of", "")
_OPENING_SHARES = (0.4, 0.4, 0.08, 0.12)


def caption(random: np.random.Generator, scene: Scene, *, name: str | None = None) -> str:
    """A caption of a scene, true but incomplete: it always names the class, and often colors, pattern and place.

    `name` is the name of an individual; most captions then use it in place of the description.
    """
    opening = str(random.choice(_OPENINGS, p=_OPENING_SHARES))
    place = PLACES[scene.place] if random.random() < 0.7 else ""
    words = f"{name} {scene.look.class_word}" if name is not None and random.random() < 0.85 else ""
    if name is not None and not words:
        words = scene.look.class_word
    if not words:
        num_colors = int(random.choice(3, p=(0.3, 0.35, 0.35)))
        words = describe(scene.look, num_colors=num_colors, has_pattern=bool(random.random() < 0.7))
    article = "an" if words[0] in "aeiou" else "a"
    return " ".join(part for part in (opening, article, words, place) if part)


def describe(look: Look, *, num_colors: int, has_pattern: bool) -> str:
    """The description of an ordinary object, such as "red and white striped mug"; plain objects have only one color."""
    if look.pattern == "plain":
        return f"{look.primary} {look.class_word}" if num_colors else look.class_word
    colors = (look.primary, look.secondary)[:num_colors]
    return " ".join([*([" and ".join(colors)] if colors else []), *([look.pattern] if has_pattern else []), look.class_word])
