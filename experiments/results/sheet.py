"""A contact sheet of the results: one row per subject, from a photo to its class after training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.evaluation.dataset import TOYBOX_COLOURS
from dreambooth.pages.images import to_image, write_contact_sheet
from dreambooth.recipes.toybox import subject_look
from dreambooth.toybox.world import PLACES
from experiments.results.looking import photo_pixels
from experiments.results.runs import TOKENS, Place, Scale
from experiments.results.subject import BASE, WITH, WITHOUT, models_of, show

__all__ = ["write_sheet"]

_PLACE, _COLOR = "moon", "green"
_COLUMNS = ("photo", "subject", "subject", _PLACE, _COLOR, *(2 * ("base", "weight 1", "weight 0")))
"""Short enough for images of 64 pixels; the last six are of the class, with two seeds."""


def write_sheet(place: Place, scale: Scale) -> Path:
    """The first images of each kind, not a selection; `measure_subject` has generated them before."""
    rows = [_row(place, scale, name) for name in scale.subjects]
    path = place.output / "sheet.png"
    write_contact_sheet(path, rows, row_labels=list(scale.subjects), column_labels=list(_COLUMNS))
    return path


def _row(place: Place, scale: Scale, name: str) -> list[NDArray[np.uint8]]:
    word, models = subject_look(name).class_word, models_of(place, name)
    base = show(place, scale, models[BASE], word, "")
    learned, without = (show(place, scale, models[kind], word, TOKENS[0]) for kind in (WITH, WITHOUT))
    pictures: list[Tensor] = [photo_pixels(place.photos(name))[0], learned.plain_SCHW[0], learned.plain_SCHW[1]]
    pictures.append(learned.places_PSCHW[list(PLACES).index(_PLACE), 0])
    pictures.append(learned.colors_PSCHW[TOYBOX_COLOURS.index(_COLOR), 0])
    pictures += [shown.class_SCHW[seed] for seed in (0, 1) for shown in (base, learned, without)]
    return [to_image(pixels) for pixels in pictures]
