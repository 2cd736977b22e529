"""What is said about a picture of the world: the words a person would use, with some of them left out."""

from __future__ import annotations

import numpy as np

from dreambooth.toybox.world import PLACES, Look, Scene

__all__ = ["caption", "describe"]

_OPENINGS = ("photo of", "a photo of", "a picture of", "")
_OPENING_SHARES = (0.4, 0.4, 0.08, 0.12)


def caption(random: np.random.Generator, scene: Scene, *, name: str | None = None) -> str:
    """A caption of a scene, true but not complete: class always, colours, pattern and place often.

    `name` is that of an individual. It then stands where the looks would stand, most of the time.
    """
    opening = str(random.choice(_OPENINGS, p=_OPENING_SHARES))
    place = PLACES[scene.place] if random.random() < 0.7 else ""
    words = f"{name} {scene.look.class_word}" if name is not None and random.random() < 0.85 else ""
    if name is not None and not words:
        words = scene.look.class_word
    if not words:
        num_colours = int(random.choice(3, p=(0.3, 0.35, 0.35)))
        words = describe(scene.look, num_colours=num_colours, has_pattern=bool(random.random() < 0.7))
    article = "an" if words[0] in "aeiou" else "a"
    return " ".join(part for part in (opening, article, words, place) if part)


def describe(look: Look, *, num_colours: int, has_pattern: bool) -> str:
    """An ordinary object in words, such as "red and white striped mug"; a plain one has one colour and no word for it."""
    if look.pattern == "plain":
        return f"{look.primary} {look.class_word}" if num_colours else look.class_word
    colours = (look.primary, look.secondary)[:num_colours]
    return " ".join([*([" and ".join(colours)] if colours else []), *([look.pattern] if has_pattern else []), look.class_word])
