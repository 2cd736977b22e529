"""`python -m experiments.photos.crops`: how much of the subject the squares of `--crop subject` show, without a mask.

Photos of 3:2 with the subject to the left or right of the middle, in five places or all in one. The true masks of the renders
say which pixels are the subject. Nothing is trained.

Shapes: H and W height and width.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreambooth.data.records import Focus, Photo
from dreambooth.data.saliency import salient_boxes, small_copy
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import View, all_training_views, central_view
from dreambooth.toybox.render import render, subject_mask
from dreambooth.toybox.subjects import SUBJECTS, random_subject, subject_scenes
from dreambooth.toybox.world import PLACES, Look, Scene
from experiments.results.looking import over_subjects

__all__ = ["MEASURES", "main", "measured", "table"]

_SIZE = Size(128, 192)
_SIDE = Size.square(64)
_NUM_PHOTOS = 5
_ASIDE = 0.75
_WHOLE = 0.99
_SEED = 2023

MEASURES = ("shown", "whole", "filled")
"""Share of the subject that a square shows; share of the photos in which that is at least 99%; share of a square that the
subject fills."""


@dataclass(frozen=True)
class _Render:
    photo: Photo
    mask: NDArray[np.bool_]
    """True for the subject, (H, W)."""


_SQUARES: Mapping[str, Callable[[Photo], View]] = {
    "in the middle": lambda photo: central_view(photo, _SIDE),
    "around what stands out": lambda photo: all_training_views(
        photo, ViewSettings(crop="subject", flip_probability=0), _SIDE, 0, "instance"
    )[0],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m experiments.photos.crops", description=__doc__)
    parser.add_argument("--subjects", type=int, default=20, help="number of subjects: the fixed ten, then drawn ones")
    looks = _looks(parser.parse_args(arguments).subjects)
    sys.stdout.write(table({where: [measured(look, number, where) for number, look in enumerate(looks)] for where in _WHERE}))
    return 0


_WHERE = ("in five places", "in one place")


def _looks(num: int) -> list[Look]:
    return [*SUBJECTS.values(), *(random_subject(_SEED + number) for number in range(num))][:num]


def measured(look: Look, number: int, where: str) -> dict[str, dict[str, float]]:
    """Square to measure to mean over the photos of a subject."""
    renders = _renders(look, number, where)
    return {
        name: {measure: float(np.mean([_measure(one, square(one.photo), measure) for one in renders])) for measure in MEASURES}
        for name, square in _SQUARES.items()
    }


def _renders(look: Look, number: int, where: str) -> list[_Render]:
    pixels, masks = [], []
    for index, scene in enumerate(subject_scenes(look, num=_NUM_PHOTOS, seed=_SEED + number)):
        place = scene.place if where == _WHERE[0] else list(PLACES)[number % len(PLACES)]
        view = replace(scene.view, aside=_ASIDE if index % 2 else -_ASIDE)
        moved = Scene(look, place, view)
        pixels.append(render(moved, _SIZE.height, width=_SIZE.width))
        masks.append(subject_mask(moved, _SIZE.height, width=_SIZE.width) >= 128)
    boxes = salient_boxes([small_copy(one) for one in pixels], _NUM_PHOTOS * [_SIZE])
    photos = (
        Photo(
            Path(f"{index}.png"),
            str(index),
            _SIZE.width,
            _SIZE.height,
            None,
            focus=None if box is None else Focus(box, "saliency"),
        )
        for index, box in enumerate(boxes)
    )
    return [_Render(photo, mask) for photo, mask in zip(photos, masks, strict=True)]


def _measure(one: _Render, view: View, measure: str) -> float:
    inside = one.mask[view.top : view.top + view.height, view.left : view.left + view.width]
    shown = float(inside.sum() / one.mask.sum())
    return {"shown": shown, "whole": float(shown >= _WHOLE), "filled": float(inside.mean())}[measure]


def table(numbers: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> str:
    """Means over subjects as Markdown, with the 95% interval of drawing other subjects."""
    lines = [f"| photos | square | {' | '.join(MEASURES)} |", f"|---|---|{'---|' * len(MEASURES)}"]
    for where, subjects in numbers.items():
        for name in _SQUARES:
            cells = [_cell([one[name][measure] for one in subjects], f"{where} {name} {measure}") for measure in MEASURES]
            lines.append(f"| {where} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], key: str) -> str:
    found = over_subjects([{"value": value} for value in values], key)
    return f"{found['value']:.0%} [{found['low']:.0%}, {found['high']:.0%}]"


if __name__ == "__main__":
    sys.exit(main())
