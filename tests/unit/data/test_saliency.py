"""Squares around what stands out, on renders whose true masks are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dreambooth.data.focus import clue_of, with_focus
from dreambooth.data.pictures import scan_subjects
from dreambooth.data.records import Focus, Mask, Photo, SubjectBox
from dreambooth.data.saliency import salient_boxes, small_copy
from dreambooth.data.settings import SubjectSettings, ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import View, all_training_views, central_view
from dreambooth.toybox.render import render, subject_mask
from dreambooth.toybox.subjects import random_subject, subject_scenes
from dreambooth.toybox.world import Scene

Renders = list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
AROUND = ViewSettings(crop="subject", flip_probability=0)
SIZE = Size(32, 56)


def off_centre(seed: int, place: str | None = None) -> Renders:
    """Four photos of one subject and where it is, (H, W) each, to the left or to the right of the middle."""
    found = []
    for number, middle in enumerate(subject_scenes(random_subject(seed), num=4, seed=seed)):
        view = replace(middle.view, aside=0.75 if number % 2 else -0.75)
        scene = Scene(middle.look, place or middle.place, view)
        mask = subject_mask(scene, SIZE.height, width=SIZE.width) >= 128
        found.append((render(scene, SIZE.height, width=SIZE.width), mask))
    return found


@pytest.fixture(scope="module")
def renders() -> dict[str, Renders]:
    return {"in many places": off_centre(1), "another": off_centre(2), "all on grass": off_centre(3, "grass")}


def photo(width: int, height: int, focus: Focus | None = None) -> Photo:
    return Photo(Path("a.png"), "a", width, height, None, focus=focus)


def contained(mask: NDArray[np.bool_], view: View) -> float:
    """Share of the subject that a view shows."""
    return float(mask[view.top : view.top + view.height, view.left : view.left + view.width].sum() / mask.sum())


def test_the_squares_contain_the_subject_better_than_the_middle_does(renders: dict[str, Renders]) -> None:
    means = []
    for name, taken in renders.items():
        pixels, masks = zip(*taken, strict=True)
        boxes = salient_boxes([small_copy(one) for one in pixels], len(pixels) * [SIZE])
        shares = []
        for mask, box in zip(masks, boxes, strict=True):
            assert box is not None
            focused = photo(SIZE.width, SIZE.height, Focus(box, "saliency"))
            (view,) = all_training_views(focused, AROUND, Size.square(8), 0, "instance")
            assert view.width == view.height >= 0.79 * SIZE.height
            shares.append((contained(mask, view), contained(mask, central_view(focused, Size.square(8)))))
        assert all(around >= middle - 0.01 for around, middle in shares), name
        means.append(np.mean(shares, axis=0))
        assert means[-1][0] > means[-1][1] + 0.05, name
    around, middle = np.mean(means, axis=0)
    assert around > 0.95 and middle < 0.85


def test_the_boxes_do_not_depend_on_the_order_of_the_photos(renders: dict[str, Renders]) -> None:
    copies = [small_copy(pixels) for pixels, _ in renders["another"]]
    boxes = salient_boxes(copies, 4 * [SIZE])
    assert salient_boxes(copies[::-1], 4 * [SIZE]) == boxes[::-1]


def test_nothing_stands_out_of_one_color_and_boxes_have_the_size_of_the_photo() -> None:
    plain = np.full((30, 40, 3), 200, dtype=np.uint8)
    assert salient_boxes([], []) == []
    assert salient_boxes([small_copy(plain)] * 2, [Size(30, 40)] * 2) == [None, None]
    spotted = plain.copy()
    spotted[12:18, 24:32] = (255, 0, 0)
    (box,) = salient_boxes([small_copy(spotted)], [Size(3000, 4000)])
    assert box is not None
    assert (box.top, box.left) == pytest.approx((1200, 2400), abs=120)
    assert (box.top + box.height, box.left + box.width) == pytest.approx((1800, 3200), abs=120)


def test_a_face_comes_before_what_stands_out_and_a_mask_before_both() -> None:
    box, face = SubjectBox(400, 800, 100, 80), Focus(SubjectBox(500, 1000, 100, 80), "face")
    (around_face,) = all_training_views(photo(3000, 2000, face), AROUND, Size.square(64), 0, "instance")
    assert around_face == View(Size.square(64), top=425, left=915, height=250, width=250, flip=False)
    masked = replace(photo(3000, 2000), mask=Mask(None, "m", box))
    (as_today,) = all_training_views(masked, AROUND, Size.square(64), 0, "instance")
    assert (as_today.height, as_today.top, as_today.left) == (125, 388, 778)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert with_focus([masked], [clue_of(b"", pixels)], lambda _: 0) == (masked,)


def test_subjects_in_folders_of_one_run_are_looked_for_apart(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    for name in ("rex", "tom"):
        for seed in range(3):
            path = make_photo(f"{seed}.png", seed=seed + 10 * (name == "tom"), folder=tmp_path / "photos" / name / "dog")
            pixels = np.asarray(Image.open(path)).copy()
            pixels[20:40, 60:80] = (255, 0, 0) if name == "rex" else (0, 0, 255)
            Image.fromarray(pixels).save(path)
    subject = SubjectSettings(photos=tmp_path / "photos", class_word="dog", captions="filename")
    assert all(one.focus is None for one in scan_subjects(subject, resolution=16, views=ViewSettings()).photos)
    together = scan_subjects(subject, resolution=16, views=AROUND).photos
    alone = SubjectSettings(photos=tmp_path / "photos" / "tom", class_word="dog")
    assert [one.focus for one in together[3:]] == [
        one.focus for one in scan_subjects(alone, resolution=16, views=AROUND).photos
    ]
    assert {one.focus.source for one in together if one.focus is not None} == {"saliency"}
