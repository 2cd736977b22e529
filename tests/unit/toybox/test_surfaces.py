from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from dreambooth.toybox.shapes import SHAPES, Floats, floats
from dreambooth.toybox.subjects import SUBJECTS
from dreambooth.toybox.surfaces import MATERIALS, PATTERNS, surface_colours
from dreambooth.toybox.world import CLASSES, COLOURS, Look

ONE_COLOURED = {("lamp", "halved"), ("lamp", "belted"), ("car", "halved")}
"""Patterns whose border lies beside the body of a class, so that only one of the colours is there."""


@cache
def surface(word: str) -> tuple[NDArray[np.str_], Floats, Floats]:
    """Materials, points and normals all over an object."""
    shape = SHAPES[word]
    near = floats(np.random.default_rng(0).uniform((-0.9, 0, -0.9), (0.9, 1.1, 0.9), (40_000, 3)))
    distances = np.stack([part.distance(near) for part in shape.parts])
    kept = np.abs(distances.min(axis=0)) < 0.012
    near, which = near[kept], distances[:, kept].argmin(axis=0)

    def whole(at: Floats) -> Floats:
        return floats(np.min([part.distance(at) for part in shape.parts], axis=0))

    steps = floats(np.eye(3)) * np.float32(0.004)
    normals = np.stack([whole(near + step) - whole(near - step) for step in steps], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return np.array([part.material for part in shape.parts])[which], near, normals


def painted(look: Look) -> tuple[NDArray[np.str_], Floats]:
    """Materials of points all over an object, and their colours."""
    materials, at, normals = surface(look.class_word)
    colours = surface_colours(look, SHAPES[look.class_word], materials, at, normals)
    assert colours.shape == at.shape and colours.dtype == np.float32
    return materials, colours


def share(colours: Floats, name: str) -> float:
    return float((colours == floats(COLOURS[name])).all(axis=1).mean())


@pytest.mark.parametrize("word", CLASSES)
def test_every_pattern_but_plain_shows_both_colours(word: str) -> None:
    for pattern in PATTERNS:
        materials, colours = painted(Look(word, pattern, "red", "blue", "green"))
        body = colours[np.isin(materials, ("body", "walls"))]
        shares = share(body, "red"), share(body, "blue")
        if pattern == "plain":
            assert shares[1] == 0 and shares[0] > 0.6
        else:
            assert (min(shares) > 0.02) == ((word, pattern) not in ONE_COLOURED), (pattern, shares)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_fixed_subject_shows_both_its_colours(name: str) -> None:
    look = SUBJECTS[name]
    materials, colours = painted(look)
    body = colours[np.isin(materials, ("body", "walls"))]
    assert min(share(body, look.primary), share(body, look.secondary)) > 0.02


def test_patterns_are_all_different() -> None:
    at = np.random.default_rng(0).uniform(0, 1, (2, 5000)).astype(np.float32)
    masks = {name: pattern(at[0], at[1]) for name, pattern in PATTERNS.items()}
    assert all(mask.dtype == np.bool_ and mask.shape == (5000,) for mask in masks.values())
    names = list(masks)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            differ = float((masks[one] != masks[other]).mean())
            assert 0.1 < differ < 0.9, (one, other)


def test_a_plain_body_does_not_depend_on_the_second_colour() -> None:
    for word in CLASSES:
        one = painted(Look(word, "plain", "red", "blue", "green"))[1]
        np.testing.assert_array_equal(one, painted(Look(word, "plain", "red", "black", "green"))[1])


def test_parts_are_made_of_what_they_say() -> None:
    materials, colours = painted(Look("car", "checked", "red", "blue", "green"))
    assert set(materials.tolist()) == {"body", "accent", "rubber", "glass"}
    assert share(colours[materials == "accent"], "green") == 1
    for name in ("rubber", "glass"):
        assert (colours[materials == name] == floats(MATERIALS[name])).all()


def test_a_house_has_windows_in_every_wall_and_one_door() -> None:
    """Two windows of 18 x 18 in each wall; a door of 17 x 34 in the wall at +z."""
    look = Look("house", "plain", "red", "blue", "green")

    def wall(along: str, side: float) -> Floats:
        facing = floats([(0, 0, side)] if along == "x" else [(side, 0, 0)]).repeat(len(at), axis=0)
        spots = floats([(u, v, 0.36 * side) if along == "x" else (0.46 * side, v, u) for u, v in at])
        return surface_colours(look, SHAPES["house"], np.array(["walls"] * len(at)), spots, facing)

    red, window, door = COLOURS["red"], (0.55, 0.72, 0.85), (0.20, 0.10, 0.06)
    at = [(0.22, 0.36), (-0.22, 0.36), (0.22, 0.46), (0.0, 0.1), (0.1, 0.1), (0.0, 0.4)]
    np.testing.assert_allclose(wall("x", 1), (window, window, red, door, red, red), atol=1e-6)
    for along, side in (("x", -1), ("z", 1), ("z", -1)):
        np.testing.assert_allclose(wall(along, side), (window, window, red, red, red, red), atol=1e-6)
