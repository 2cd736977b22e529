"""The objects as signed distance functions: the distance of a point from each part of an object, negative inside.

A part is a distance function of points (N, 3) in object coordinates and the name of its material: `body` carries
the pattern, `accent` the accent color, others a fixed color. The formulas of the solids follow Inigo Quilez's list of
distance functions (iquilezles.org/articles/distfunctions), sphere tracing follows Hart, "Sphere tracing", 1996.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SHAPES", "Distance", "Floats", "Part", "Shape", "floats"]

Floats = NDArray[np.float32]
Distance = Callable[[Floats], Floats]
"""Signed distances (N,) of points (N, 3) from a solid."""

_Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A solid and its material."""

    distance: Distance
    material: str


@dataclass(frozen=True)
class Shape:
    """The shape that all objects of a class share."""

    parts: tuple[Part, ...]
    radius: float
    """Radius of a sphere around (0, centre, 0) that contains the object."""
    centre: float
    is_round: bool
    """Whether patterns wrap around the vertical axis instead of lying on flat sides."""
    caution: float = 1.0
    """Factor for the marching steps where the formula overestimates the distance."""


def floats(values: ArrayLike) -> Floats:
    """Numbers as an array of float32."""
    return np.asarray(values, dtype=np.float32)


def _length(*axes: Floats) -> Floats:
    total = axes[0] * axes[0]
    for axis in axes[1:]:
        total = total + axis * axis
    length: Floats = np.sqrt(total)
    return length


def _box(centre: _Triple, half: _Triple, rounding: float = 0.02) -> Distance:
    at, reach = floats(centre), floats(half) - np.float32(rounding)

    def distance(points: Floats) -> Floats:
        beyond = np.abs(points - at) - reach
        outside = np.maximum(beyond, 0)
        inside = np.minimum(beyond.max(axis=1), 0)
        apart: Floats = _length(outside[:, 0], outside[:, 1], outside[:, 2]) + inside - np.float32(rounding)
        return apart

    return distance


def _two_sided(radial: Floats, axial: Floats) -> Floats:
    apart: Floats = np.minimum(np.maximum(radial, axial), 0) + _length(np.maximum(radial, 0), np.maximum(axial, 0))
    return apart


def _cylinder(centre: _Triple, radius: float, half: float, axis: int = 1) -> Distance:
    at = floats(centre)
    across = [index for index in range(3) if index != axis]

    def distance(points: Floats) -> Floats:
        moved = points - at
        radial = _length(moved[:, across[0]], moved[:, across[1]]) - np.float32(radius)
        return _two_sided(radial, np.abs(moved[:, axis]) - np.float32(half))

    return distance


def _frustum(bottom: float, top: float, radius_bottom: float, radius_top: float) -> Distance:
    """A vertical truncated cone; above and below it, the distance is a lower bound."""
    slope = (radius_top - radius_bottom) / (top - bottom)
    upright = np.float32(1 / np.sqrt(1 + slope * slope))

    def distance(points: Floats) -> Floats:
        height = points[:, 1]
        wide = np.float32(radius_bottom) + np.float32(slope) * (height - np.float32(bottom))
        side = (_length(points[:, 0], points[:, 2]) - wide) * upright
        apart: Floats = np.maximum(side, np.abs(height - np.float32((top + bottom) / 2)) - np.float32((top - bottom) / 2))
        return apart

    return distance


def _sphere(centre: _Triple, radius: float, flat: float = 1.0) -> Distance:
    """A sphere whose height is `flat` times its width."""
    at = floats(centre)

    def distance(points: Floats) -> Floats:
        moved = points - at
        round_away = _length(moved[:, 0], moved[:, 1] / np.float32(flat), moved[:, 2]) - np.float32(radius)
        return round_away * np.float32(min(flat, 1.0))

    return distance


def _ring(centre: _Triple, radius: float, thickness: float) -> Distance:
    """A torus standing upright, in the plane of x and y."""
    at = floats(centre)

    def distance(points: Floats) -> Floats:
        moved = points - at
        return _length(_length(moved[:, 0], moved[:, 1]) - np.float32(radius), moved[:, 2]) - np.float32(thickness)

    return distance


def _rod(start: _Triple, end: _Triple, radius: float, radius_end: float) -> Distance:
    """A rod with rounded ends whose thickness varies from start to end."""
    origin, along = floats(start), floats(end) - floats(start)

    def distance(points: Floats) -> Floats:
        moved = points - origin
        share: Floats = np.clip(moved @ along / np.float32(along @ along), 0, 1)
        away = moved - share[:, None] * along
        thickness: Floats = np.float32(radius) + share * np.float32(radius_end - radius)
        return _length(away[:, 0], away[:, 1], away[:, 2]) - thickness

    return distance


def _turned(profile: tuple[tuple[float, float], ...]) -> Distance:
    """A solid of revolution: its radius at given heights, smooth between them."""
    heights = floats([height for height, _ in profile])
    fine = np.linspace(heights[0], heights[-1], 64, dtype=np.float32)
    radii = np.interp(fine, heights, floats([radius for _, radius in profile])).astype(np.float32)
    window = np.hanning(11)[1:-1] / np.hanning(11).sum()
    smooth = np.convolve(np.pad(radii, 4, mode="edge"), window, mode="valid").astype(np.float32)

    def distance(points: Floats) -> Floats:
        height = points[:, 1]
        side = _length(points[:, 0], points[:, 2]) - np.interp(height, fine, smooth).astype(np.float32)
        middle, half = np.float32((heights[0] + heights[-1]) / 2), np.float32((heights[-1] - heights[0]) / 2)
        apart: Floats = np.maximum(side, np.abs(height - middle) - half)
        return apart

    return distance


def _without(solid: Distance, hole: Distance) -> Distance:
    return lambda points: np.maximum(solid(points), -hole(points))


def _roof(base: float, ridge: float, half_width: float, half_length: float) -> Distance:
    """A gable roof whose ridge runs along x."""
    slope = (ridge - base) / half_width
    upright = np.float32(1 / np.sqrt(1 + slope * slope))

    def distance(points: Floats) -> Floats:
        pitch = (points[:, 1] - np.float32(ridge) + np.float32(slope) * np.abs(points[:, 2])) * upright
        under, beyond = np.float32(base) - points[:, 1], np.abs(points[:, 0]) - np.float32(half_length)
        apart: Floats = np.maximum(np.maximum(pitch, under), beyond)
        return apart

    return distance


def _container() -> Shape:
    trunk = _box((0, 0.39, 0), (0.36, 0.39, 0.36))

    def tapered(points: Floats) -> Floats:
        narrow = points.copy()
        narrow[:, [0, 2]] /= (np.float32(0.86) + np.float32(0.18) * np.clip(points[:, 1], 0, 1))[:, None]
        return trunk(narrow) * np.float32(0.85)

    lid = Part(_box((0, 0.83, 0), (0.42, 0.08, 0.42), 0.03), "accent")
    return Shape((Part(tapered, "body"), lid), 0.72, 0.45, is_round=False)


def _mug() -> Shape:
    wall = _without(_cylinder((0, 0.4, 0), 0.36, 0.4), _cylinder((0, 0.5, 0), 0.30, 0.43))
    handle = _without(_ring((0.38, 0.42, 0), 0.21, 0.055), _cylinder((0, 0.5, 0), 0.33, 0.6))
    return Shape((Part(wall, "body"), Part(handle, "accent")), 0.82, 0.4, is_round=True)


def _ball() -> Shape:
    return Shape((Part(_sphere((0, 0.42, 0), 0.42), "body"),), 0.44, 0.42, is_round=True)


def _teapot() -> Shape:
    return Shape(
        (
            Part(_sphere((0, 0.36, 0), 0.44, 0.82), "body"),
            Part(_rod((0.32, 0.26, 0), (0.72, 0.62, 0), 0.11, 0.045), "body"),
            Part(_without(_ring((-0.46, 0.40, 0), 0.20, 0.05), _sphere((0, 0.36, 0), 0.40, 0.82)), "accent"),
            Part(_sphere((0, 0.77, 0), 0.075), "accent"),
            Part(_sphere((0, 0.68, 0), 0.20, 0.3), "body"),
        ),
        0.88,
        0.42,
        is_round=True,
    )


def _vase() -> Shape:
    profile = ((0.0, 0.20), (0.12, 0.30), (0.34, 0.36), (0.55, 0.25), (0.72, 0.12), (0.86, 0.12), (0.94, 0.17), (1.0, 0.20))
    hole = _cylinder((0, 0.95, 0), 0.11, 0.2)
    return Shape((Part(_without(_turned(profile), hole), "body"),), 0.62, 0.5, is_round=True, caution=0.7)


def _chair() -> Shape:
    legs = tuple(Part(_box((x, 0.2, z), (0.045, 0.2, 0.045), 0.01), "accent") for x in (-0.27, 0.27) for z in (-0.27, 0.27))
    seat = Part(_box((0, 0.44, 0), (0.34, 0.055, 0.34)), "body")
    back = Part(_box((0, 0.76, -0.30), (0.34, 0.28, 0.05)), "body")
    return Shape((*legs, seat, back), 0.72, 0.5, is_round=False)


def _lamp() -> Shape:
    return Shape(
        (
            Part(_frustum(0.55, 1.05, 0.42, 0.20), "body"),
            Part(_cylinder((0, 0.3, 0), 0.035, 0.3), "accent"),
            Part(_cylinder((0, 0.035, 0), 0.22, 0.035), "accent"),
        ),
        0.72,
        0.52,
        is_round=True,
    )


def _car() -> Shape:
    wheels = tuple(Part(_cylinder((x, 0.14, z), 0.14, 0.06, axis=2), "rubber") for x in (-0.36, 0.36) for z in (-0.29, 0.29))
    trunk = Part(_box((0, 0.27, 0), (0.62, 0.14, 0.30), 0.05), "body")
    cabin = Part(_box((-0.06, 0.47, 0), (0.34, 0.10, 0.25), 0.04), "glass")
    top = Part(_box((-0.06, 0.575, 0), (0.35, 0.03, 0.26), 0.02), "accent")
    return Shape((trunk, cabin, top, *wheels), 0.76, 0.3, is_round=False)


def _house() -> Shape:
    walls = Part(_box((0, 0.3, 0), (0.46, 0.3, 0.36), 0.01), "walls")
    return Shape((walls, Part(_roof(0.58, 0.98, 0.46, 0.52), "accent")), 0.78, 0.45, is_round=False)


def _cone() -> Shape:
    base = Part(_box((0, 0.04, 0), (0.36, 0.04, 0.36), 0.02), "accent")
    return Shape((Part(_frustum(0.06, 1.05, 0.28, 0.05), "body"), base), 0.72, 0.5, is_round=True)


SHAPES: dict[str, Shape] = {
    "container": _container(),
    "mug": _mug(),
    "ball": _ball(),
    "teapot": _teapot(),
    "vase": _vase(),
    "chair": _chair(),
    "lamp": _lamp(),
    "car": _car(),
    "house": _house(),
    "cone": _cone(),
}
"""Class word to shape."""
