from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dreambooth.toybox.render import _camera, _march, _normals, _solid, render
from dreambooth.toybox.shapes import floats
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES, Look, Scene, View, random_scene

VIEW = View(turn=0.7, elevation=0.2, distance=2.9, aside=0.0, light_turn=0.3, light_elevation=0.8, texture=1)
SIDE = 32

# Mean red, green and blue of one picture of each class, in turn at each place: what `golden_scene` gives, as it was when the
# embedded model was trained on it. A change of the renderer makes pictures that the model has never seen.
GOLDEN = {
    ("container", "beach"): (182.26, 169.19, 169.94),
    ("mug", "moon"): (114.94, 104.89, 104.4),
    ("ball", "snow"): (201.62, 201.15, 217.6),
    ("teapot", "grass"): (118.87, 158.03, 102.07),
    ("vase", "desert"): (229.38, 160.57, 98.6),
    ("chair", "city"): (87.75, 71.05, 69.26),
    ("lamp", "table"): (169.04, 126.77, 95.66),
    ("car", "road"): (129.26, 144.02, 125.4),
    ("house", "beach"): (175.34, 178.43, 188.5),
    ("cone", "moon"): (110.38, 105.4, 108.21),
}


def golden_scene(number: int) -> Scene:
    word, place = CLASSES[number], list(PLACES)[number % len(PLACES)]
    pattern = ("plain", "striped", "dotted", "checked", "zigzag")[number % 5]
    return Scene(Look(word, pattern, "red", "white", "blue", 1.05), place, replace(VIEW, turn=0.5 + number, aside=0.1))


def ball(colour: str, **view: float) -> Scene:
    return Scene(Look("ball", "plain", colour, colour, colour), "grass", replace(VIEW, **view))  # type: ignore[arg-type]


def object_mask(scene: Scene, side: int = SIDE) -> NDArray[np.bool_]:
    """Where the object is: what changes when it is painted black instead of white."""
    white, black = (
        render(replace(scene, look=replace(scene.look, pattern="plain", primary=colour, accent=colour)), side).astype(int)
        for colour in ("white", "black")
    )
    mask: NDArray[np.bool_] = np.abs(white - black).sum(axis=2) > 60
    return mask


def linear(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = (picture / 255.0) ** 2.2
    return levels


def test_a_picture_has_the_size_asked_for_and_depends_on_its_record_alone() -> None:
    scene = random_scene(np.random.default_rng(0))
    picture = render(scene, 20)
    assert picture.shape == (20, 20, 3) and picture.dtype == np.uint8
    render(golden_scene(3), 20)
    np.testing.assert_array_equal(render(scene, 20), picture)


@pytest.mark.parametrize("number", range(len(CLASSES)))
def test_pictures_are_those_that_the_model_was_trained_on(number: int) -> None:
    scene = golden_scene(number)
    mean = render(scene, SIDE).mean(axis=(0, 1))
    np.testing.assert_allclose(mean, GOLDEN[scene.look.class_word, scene.place], atol=0.3)  # of 255: another machine's rounding


@pytest.mark.parametrize("word", CLASSES)
def test_an_object_stands_whole_in_the_middle_of_its_picture(word: str) -> None:
    mask = object_mask(Scene(Look(word, "plain", "red", "red", "red"), "grass", VIEW))
    assert 0.05 < mask.mean() < 0.35
    assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    down, across = (axis.mean() for axis in np.nonzero(mask))
    assert abs(down - SIDE / 2) < 4 and abs(across - SIDE / 2) < 4


def test_hardly_a_random_scene_cuts_its_object() -> None:
    cut = 0
    for number in range(150):
        scene = random_scene(np.random.default_rng([4, number]))
        eye, rays = _camera(scene, 24)
        hits, _ = _march(_solid(scene), eye, rays)
        mask = np.zeros(24 * 24, dtype=bool)
        mask[hits] = True
        mask = mask.reshape(24, 24)
        assert mask.any()
        cut += bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    assert cut <= 7


@pytest.mark.parametrize("word", CLASSES)
def test_rays_end_on_the_surface(word: str) -> None:
    scene = Scene(Look(word, "plain", "red", "red", "red", 0.9), "moon", VIEW)
    eye, rays = _camera(scene, 48)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    solid = _solid(scene)
    hits, distance = _march(solid, eye, rays)
    assert set(hits.tolist()) == set(np.flatnonzero(np.isfinite(distance)).tolist())
    points = eye + rays[hits] * distance[hits, None]
    assert np.abs(solid.distance(points)).max() < 0.004 + 1e-5
    # A ray that is said to miss does so: no point along it is inside.
    missed = rays[np.isinf(distance)][::7]
    for along in np.linspace(2, 4, 25, dtype=np.float32):
        assert solid.distance(eye + missed * along).min() > 0


def test_normals_point_away_from_a_ball() -> None:
    solid = _solid(ball("red"))
    outwards = np.random.default_rng(0).normal(size=(200, 3))
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    normals = _normals(solid, floats((0, 0.42, 0) + 0.42 * outwards))
    assert (normals * outwards).sum(axis=1).min() > 0.999


def test_turning_an_object_turns_the_object_only() -> None:
    turned = render(ball("red", turn=2.0), SIDE)
    np.testing.assert_allclose(turned.astype(int), render(ball("red"), SIDE).astype(int), atol=1)
    quarter = Scene(Look("car", "plain", "red", "red", "red"), "grass", replace(VIEW, turn=math.pi / 2))
    along = object_mask(replace(quarter, view=replace(VIEW, turn=0.0))).any(axis=0).sum()
    assert along > 1.5 * object_mask(quarter).any(axis=0).sum()  # a car is longer than wide


def test_stretch_makes_an_object_taller() -> None:
    low, high = (Scene(Look("container", "plain", "red", "red", "red", s), "grass", VIEW) for s in (0.8, 1.2))
    rows_low, rows_high = (object_mask(scene, 48).any(axis=1) for scene in (low, high))
    assert rows_high.sum() > 1.25 * rows_low.sum()
    assert np.flatnonzero(rows_high).max() == pytest.approx(np.flatnonzero(rows_low).max(), abs=1)  # both stand on the ground


def test_the_camera_moves_as_the_view_says() -> None:
    near, far = object_mask(ball("red", distance=2.5)).sum(), object_mask(ball("red", distance=3.4)).sum()
    assert near / far == pytest.approx((3.4 / 2.5) ** 2, rel=0.15)
    centres = [np.nonzero(object_mask(ball("red", aside=aside)))[1].mean() for aside in (-0.28, 0.0, 0.28)]
    shift = 0.28 / (2.9 * 0.36) * SIDE / 2
    np.testing.assert_allclose(centres, (15.5 - shift, 15.5, 15.5 + shift), atol=0.4)
    low, high = ((_camera(ball("red", elevation=e), SIDE)[1][:, 1] < 0).mean() for e in (0.12, 0.3))
    assert high > low + 0.15  # from higher up, more of the ground


def test_light_comes_from_where_the_view_says() -> None:
    for turn in (-1.0, 1.0):
        picture = linear(render(ball("white", light_turn=turn), SIDE))
        left, right = picture[11:20, 11:16].mean(), picture[11:20, 16:21].mean()
        assert (right > 1.2 * left) if turn > 0 else (left > 1.2 * right)
    high, low = (linear(render(ball("white", light_turn=0.0, light_elevation=e), SIDE)) for e in (1.1, 0.6))
    assert high[10:12, 14:18].mean() > low[10:12, 14:18].mean()  # the top


def test_an_object_throws_a_shadow_on_the_side_away_from_the_light() -> None:
    lit = linear(render(ball("white", light_turn=1.0), 48))
    mask = object_mask(ball("white", light_turn=1.0), 48)
    row = np.flatnonzero(mask.any(axis=1)).max() - 2
    left, right = np.flatnonzero(mask[row]).min(), np.flatnonzero(mask[row]).max()
    shadow, ground = lit[row, left - 6 : left - 1].mean(), lit[row, right + 8 : right + 13].mean()
    assert shadow < 0.7 * ground


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_object_has_the_colour_it_is_called_by(colour: str) -> None:
    """In linear light a ball of any colour is the white one times its colour, but for a little gloss."""
    mask = object_mask(ball("white"), 24)
    mask &= np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)  # no ground at the edge
    shade = linear(render(ball("white"), 24))[mask].mean(axis=0) / 0.95
    seen = linear(render(ball(colour), 24))[mask].mean(axis=0) / shade
    np.testing.assert_allclose(seen, COLOURS[colour], atol=0.06)
    nearest = min(COLOURS, key=lambda name: float(np.abs(seen - COLOURS[name]).sum()))
    assert nearest == colour


def test_what_stands_there_changes_nothing_in_the_sky() -> None:
    scene = replace(ball("white"), place="snow")
    skies = [render(replace(scene, look=replace(scene.look, class_word=word)), SIDE)[:3] for word in ("ball", "car", "chair")]
    np.testing.assert_array_equal(skies[0], skies[1])
    np.testing.assert_array_equal(skies[0], skies[2])
    assert (render(replace(scene, view=replace(VIEW, texture=2)), SIDE)[:10] != render(scene, SIDE)[:10]).any()
