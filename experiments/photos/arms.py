"""What is compared: the same photos plainly, with masks, with captions that say the place, and with both; and photos of 3:2
as squares and in buckets.

The photos of a subject are all of one place, as a person's photos often are, so the place can leak into the token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dreambooth.recipes.toybox import PHOTO_SIDE, subject_look
from dreambooth.toybox.render import render, subject_mask
from dreambooth.toybox.subjects import HELD_OUT_SEED, PHOTO_SEED, subject_scenes
from dreambooth.toybox.world import PLACES, Scene

__all__ = ["ARMS", "PLAIN", "SUBJECTS", "WIDE", "Arm", "place_of", "write_elsewhere", "write_photos"]

_PLACE_OF = {
    "banded-container": "grass",
    "zigzag-mug": "table",
    "marked-ball": "beach",
    "belted-vase": "snow",
    "crossed-teapot": "desert",
}
SUBJECTS = tuple(_PLACE_OF)

_NUM_PHOTOS = 5


@dataclass(frozen=True)
class Arm:
    """Which photos the training gets, with which help."""

    has_masks: bool = False
    has_captions: bool = False
    is_wide: bool = False
    """Photos of 3:2, which show more to the left and right."""
    crop: str = "center"
    compared_with: str | None = None
    """The arm that this one is compared with."""


PLAIN, WIDE = "plain", "3:2 as squares"

ARMS = {
    PLAIN: Arm(),
    "masks": Arm(has_masks=True, compared_with=PLAIN),
    "captions": Arm(has_captions=True, compared_with=PLAIN),
    "masks and captions": Arm(has_masks=True, has_captions=True, compared_with=PLAIN),
    WIDE: Arm(is_wide=True),
    "3:2 in buckets": Arm(is_wide=True, crop="bucket", compared_with=WIDE),
}


def place_of(name: str) -> str:
    """The place of all photos of a subject."""
    return _PLACE_OF[name]


def write_photos(folder: Path, name: str, arm: Arm) -> Path:
    """The photos of a subject with the masks and captions of an arm, rendered unless the folder exists; the folder."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for number, scene in enumerate(_scenes(name, PHOTO_SEED, place_of(name), num=_NUM_PHOTOS)):
            width = PHOTO_SIDE * 3 // 2 if arm.is_wide else PHOTO_SIDE
            Image.fromarray(render(scene, PHOTO_SIDE, width=width)).save(folder / f"{number}.png")
            if arm.has_masks:
                Image.fromarray(subject_mask(scene, PHOTO_SIDE, width=width)).save(folder / f"{number}-mask.png")
            if arm.has_captions:
                caption = f"photo of a {{token}} {{class_word}} {PLACES[scene.place]}"
                (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    return folder


def write_elsewhere(folder: Path, name: str) -> Path:
    """One photo of a subject in each other place, which training never sees, rendered unless the folder exists; the folder."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for place in PLACES:
            if place != place_of(name):
                (scene,) = _scenes(name, HELD_OUT_SEED + list(PLACES).index(place), place, num=1)
                Image.fromarray(render(scene, PHOTO_SIDE)).save(folder / f"{place}.png")
    return folder


def _scenes(name: str, seed: int, place: str, *, num: int) -> list[Scene]:
    return [Scene(scene.look, place, scene.view) for scene in subject_scenes(subject_look(name), num=num, seed=seed)]
