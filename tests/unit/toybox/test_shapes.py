"""The signed distances: against what the solids are by definition, and as the march relies on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dreambooth.toybox.shapes import (
    SHAPES,
    Distance,
    Floats,
    Shape,
    _box,
    _cylinder,
    _frustum,
    _ring,
    _rod,
    _roof,
    _sphere,
    _turned,
    _without,
    floats,
)

Truth = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


def points(num: int, seed: int = 0) -> Floats:
    """All around an object, and some of them inside it."""
    return floats(np.random.default_rng(seed).uniform((-1, -0.2, -1), (1, 1.3, 1), (num, 3)))


def whole(shape: Shape, at: Floats) -> Floats:
    """Distance from the object: that of its nearest part."""
    return floats(np.min([part.distance(at) for part in shape.parts], axis=0))


SOLIDS: dict[str, tuple[Distance, Truth]] = {
    "box": (
        _box((0.1, 0.5, 0), (0.3, 0.2, 0.5), 0.0),
        lambda p: (np.abs(p - (0.1, 0.5, 0)) < (0.3, 0.2, 0.5)).all(axis=1),
    ),
    "standing cylinder": (
        _cylinder((0.1, 0.4, 0.2), 0.4, 0.3),
        lambda p: (np.hypot(p[:, 0] - 0.1, p[:, 2] - 0.2) < 0.4) & (np.abs(p[:, 1] - 0.4) < 0.3),
    ),
    "lying cylinder": (
        _cylinder((0.1, 0.4, 0.2), 0.4, 0.3, axis=2),
        lambda p: (np.hypot(p[:, 0] - 0.1, p[:, 1] - 0.4) < 0.4) & (np.abs(p[:, 2] - 0.2) < 0.3),
    ),
    "frustum": (
        _frustum(0.2, 1.0, 0.6, 0.2),
        lambda p: (np.hypot(p[:, 0], p[:, 2]) < 0.7 - 0.5 * p[:, 1]) & (p[:, 1] > 0.2) & (p[:, 1] < 1.0),
    ),
    "sphere": (_sphere((0, 0.4, 0.1), 0.5), lambda p: ((p - (0, 0.4, 0.1)) ** 2).sum(axis=1) < 0.25),
    "flat sphere": (
        _sphere((0, 0.4, 0.1), 0.5, 0.6),
        lambda p: (((p - (0, 0.4, 0.1)) / (1, 0.6, 1)) ** 2).sum(axis=1) < 0.25,
    ),
    "ring": (
        _ring((0.1, 0.5, 0), 0.4, 0.2),
        lambda p: (np.hypot(p[:, 0] - 0.1, p[:, 1] - 0.5) - 0.4) ** 2 + p[:, 2] ** 2 < 0.04,
    ),
    "roof": (
        _roof(0.2, 0.9, 0.5, 0.6),
        lambda p: (p[:, 1] < 0.9 - 1.4 * np.abs(p[:, 2])) & (p[:, 1] > 0.2) & (np.abs(p[:, 0]) < 0.6),
    ),
    "what is left": (
        _without(_sphere((0, 0.4, 0), 0.5), _cylinder((0, 0.4, 0), 0.3, 1.0)),
        lambda p: (((p - (0, 0.4, 0)) ** 2).sum(axis=1) < 0.25) & (np.hypot(p[:, 0], p[:, 2]) > 0.3),
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_distances_are_negative_inside_and_positive_outside(name: str) -> None:
    distance, is_inside = SOLIDS[name]
    at = points(4000)
    found, expected = distance(at), is_inside(at.astype(np.float64))
    assert found.dtype == np.float32 and found.shape == (4000,)
    assert expected.sum() > 100
    away = np.abs(found) > 1e-5  # the surface itself belongs to either side
    np.testing.assert_array_equal((found < 0)[away], expected[away])


def test_a_box_a_sphere_a_cylinder_and_a_ring_have_exact_distances() -> None:
    at = points(2000).astype(np.float64)
    nearest = np.clip(at, (-0.2, 0.3, -0.5), (0.4, 0.7, 0.5))
    outside = _box((0.1, 0.5, 0), (0.3, 0.2, 0.5), 0.0)(floats(at))
    np.testing.assert_allclose(np.maximum(outside, 0), np.linalg.norm(at - nearest, axis=1), atol=1e-6)
    round_box = _box((0.1, 0.5, 0), (0.3, 0.2, 0.5), 0.05)(floats(at))
    core = np.clip(at, (-0.15, 0.35, -0.45), (0.35, 0.65, 0.45))
    is_out = round_box > 0
    np.testing.assert_allclose(round_box[is_out], np.linalg.norm(at - core, axis=1)[is_out] - 0.05, atol=1e-6)
    np.testing.assert_allclose(_sphere((0, 0.4, 0), 0.5)(floats(at)), np.linalg.norm(at - (0, 0.4, 0), axis=1) - 0.5, atol=1e-6)
    around = np.hypot(at[:, 0], at[:, 2])
    scale = np.minimum(1, 0.4 / np.maximum(around, 1e-9))
    on_tube = np.stack([at[:, 0] * scale, np.clip(at[:, 1], 0.1, 0.7), at[:, 2] * scale], axis=1)
    tube = _cylinder((0, 0.4, 0), 0.4, 0.3)(floats(at))
    np.testing.assert_allclose(np.maximum(tube, 0), np.linalg.norm(at - on_tube, axis=1), atol=1e-6)
    angle = np.arctan2(at[:, 1], at[:, 0])
    on_ring = np.stack([0.4 * np.cos(angle), 0.4 * np.sin(angle), 0 * angle], axis=1)
    ring = _ring((0, 0, 0), 0.4, 0.1)(floats(at))
    np.testing.assert_allclose(ring, np.linalg.norm(at - on_ring, axis=1) - 0.1, atol=1e-6)


def test_a_rod_grows_thinner_from_start_to_end() -> None:
    rod = _rod((0, 0.2, 0), (0.8, 0.2, 0), 0.2, 0.1)
    for along, radius in ((0.0, 0.2), (0.4, 0.15), (0.8, 0.1)):
        inside, outside = rod(floats([(along, 0.2 + 0.95 * radius, 0), (along, 0.2, 1.05 * radius)]))
        assert inside < 0 < outside
    ends = rod(floats([(-0.19, 0.2, 0), (-0.21, 0.2, 0), (0.89, 0.2, 0), (0.91, 0.2, 0)]))
    np.testing.assert_allclose(ends, (-0.01, 0.01, -0.01, 0.01), atol=1e-6)


def test_a_turned_solid_follows_its_profile() -> None:
    profile = ((0.0, 0.2), (0.4, 0.4), (0.8, 0.3), (1.0, 0.3))
    turned = _turned(profile)
    for height, radius in ((0.2, 0.3), (0.6, 0.35), (0.9, 0.3)):  # away from the corners, which are smoothed
        for angle in (0.0, 1.0, 2.5):
            at = [[r * np.cos(angle), height, r * np.sin(angle)] for r in (radius - 0.01, radius + 0.01)]
            inside, outside = turned(floats(at))
            assert inside < 0 < outside
    above, below, within = turned(floats([(0, 1.1, 0), (0, -0.1, 0), (0, 0.5, 0)]))
    assert above == pytest.approx(0.1, abs=1e-6) and below == pytest.approx(0.1, abs=1e-6) and within < 0


@pytest.mark.parametrize("word", SHAPES)
def test_a_march_never_steps_over_the_surface(word: str) -> None:
    """No point of the object is nearer than the distance says, after `caution`; the tolerance is the container's taper."""
    shape, at = SHAPES[word], points(12_000)
    distance = whole(shape, at)
    inside, outside = at[distance < 0][:800], at[distance > 0][:1500]
    assert len(inside) > 100
    apart = np.linalg.norm(outside[:, None] - inside[None], axis=2).min(axis=1)
    assert (shape.caution * distance[distance > 0][:1500] <= apart + 1e-6).all()
    steps = floats(np.random.default_rng(1).normal(size=at.shape))
    steps *= 0.03 / np.linalg.norm(steps, axis=1, keepdims=True)
    steepest = np.abs(whole(shape, at + steps) - distance).max() / 0.03
    assert shape.caution * steepest < 1.03


@pytest.mark.parametrize("word", SHAPES)
def test_every_part_is_there_above_the_ground_and_within_the_sphere(word: str) -> None:
    shape, at = SHAPES[word], points(40_000)
    lowest = []
    for part in shape.parts:
        inside = at[part.distance(at) < 0]
        assert len(inside) > 5, part.material
        assert inside[:, 1].min() > -1e-6
        assert np.linalg.norm(inside - floats((0, shape.centre, 0)), axis=1).max() < shape.radius
        lowest.append(inside[:, 1].min())
    assert min(lowest) < 0.06  # nothing floats


def test_materials_are_known_ones() -> None:
    materials = {part.material for shape in SHAPES.values() for part in shape.parts}
    assert materials == {"body", "accent", "walls", "rubber", "glass"}
    for word, shape in SHAPES.items():
        assert {"body", "walls"} & {part.material for part in shape.parts}, word
