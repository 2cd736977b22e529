"""`dreambooth toybox photos` and `sheet`: rendered images of the toybox world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.display import Display, counted, quoted
from dreambooth.errors import SettingsError
from dreambooth.files import remove_partials_of
from dreambooth.pages.images import save_picture, write_contact_sheet
from dreambooth.schema.verbs import PhotosSettings, SheetSettings
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import PHOTO_SEED, SUBJECTS, random_subject, subject_scenes
from dreambooth.toybox.world import CLASSES, PLACES, Look, Scene, random_look, random_view

__all__ = ["NUM_PHOTOS", "PHOTO_SIDE", "render_photos", "render_sheet", "subject_look", "write_photos"]

NUM_PHOTOS = 5


PHOTO_SIDE = 128
"""Default width and height of the photos, in pixels."""


def subject_look(name: str) -> Look:
    """The fixed subject of that name, or a random one from a seed. Raises SettingsError when it is neither."""
    if name in SUBJECTS:
        return SUBJECTS[name]
    if name.isdecimal():
        return random_subject(int(name))
    raise SettingsError(f"subject is {name!r}: expected a whole number or one of {', '.join(SUBJECTS)}")


def render_photos(settings: PhotosSettings, display: Display) -> tuple[Path, ...]:
    """Photos of one subject as PNG files; their paths. Raises SettingsError when the folder holds other files."""
    look = subject_look(settings.subject)
    folder = settings.output or Path("photos") / settings.subject
    paths = write_photos(settings.subject, folder, num=settings.num_photos, side=settings.side, seed=settings.seed)
    display.say(f"Wrote {counted(len(paths), 'photo')} of a {look.class_word} to {folder}. To train on them:")
    display.say(f"  dreambooth train --preset toybox --photos {quoted(folder)} --class-word {look.class_word}")
    return paths


def write_photos(
    subject: str, folder: Path, *, num: int = NUM_PHOTOS, side: int = PHOTO_SIDE, seed: int = PHOTO_SEED
) -> tuple[Path, ...]:
    """Render photos of a subject, `side` pixels wide, into a folder that holds nothing else; returns their paths."""
    look = subject_look(subject)
    _check_is_folder(folder)
    scenes = subject_scenes(look, num=num, seed=seed)
    paths = tuple(folder / f"{subject}-{number + 1:02d}.png" for number in range(num))
    for path in paths:
        remove_partials_of(path)  # of a killed program
    others = sorted(entry.name for entry in folder.iterdir() if entry not in paths) if folder.is_dir() else []
    if others:
        raise SettingsError(f"output is {folder}: it already holds {others[0]}, which training would use as well")
    for path, scene in zip(paths, scenes, strict=True):
        save_picture(path, _pixels(render(scene, side)), {"place": scene.place})
    return paths


def render_sheet(settings: SheetSettings, display: Display) -> Path:
    """A sheet of every class, then every fixed subject, in every place. Raises SettingsError unless the output is a PNG."""
    if settings.output.suffix != ".png" or settings.output.is_dir():
        raise SettingsError(f"output is {settings.output}: expected the name of a PNG file, such as world.png")
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for number, name in enumerate((*CLASSES, *SUBJECTS)):
        random = np.random.default_rng([settings.seed, number])
        looks = [SUBJECTS.get(name) or random_look(random, name) for _ in PLACES]
        scenes = [Scene(look, place, random_view(random)) for look, place in zip(looks, PLACES, strict=True)]
        rows[name] = [render(scene, settings.side) for scene in scenes]
    write_contact_sheet(settings.output, list(rows.values()), row_labels=list(rows), column_labels=list(PLACES))
    display.say(f"Wrote {settings.output}")
    return settings.output


def _check_is_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingsError(f"output is {path}: expected a folder, found a file", hint="Choose another --output.")


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
