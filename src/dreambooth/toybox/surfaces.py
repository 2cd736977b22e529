"""Surface colors of objects: patterns, and materials that are the same on every object."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dreambooth.toybox.shapes import Floats, Shape, floats
from dreambooth.toybox.world import COLOURS, Look

__all__ = ["MATERIALS", "PATTERNS", "surface_colours"]

MATERIALS: dict[str, tuple[float, float, float]] = {"rubber": (0.03, 0.03, 0.035), "glass": (0.35, 0.52, 0.65)}
_WINDOW, _DOOR = floats((0.55, 0.72, 0.85)), floats((0.20, 0.10, 0.06))

Bools = NDArray[np.bool_]


def _striped(u: Floats, v: Floats) -> Bools:
    return (v * 4.4) % 1 < 0.5


def _dotted(u: Floats, v: Floats) -> Bools:
    row: Floats = np.floor(v * 4.6)
    across = (u * 4.6 + 0.5 * (row % 2)) % 1 - 0.5
    return across**2 + ((v * 4.6) % 1 - 0.5) ** 2 < 0.1


def _checked(u: Floats, v: Floats) -> Bools:
    is_even: Bools = (np.floor(u * 4.2) + np.floor(v * 4.2)) % 2 == 0
    return is_even


def _banded(u: Floats, v: Floats) -> Bools:
    return ((u + v) * 2.9) % 1 < 0.5


def _zigzag(u: Floats, v: Floats) -> Bools:
    bent: Floats = v + 0.55 * np.abs((u * 2.4) % 1 - 0.5)
    return (bent * 3.6) % 1 < 0.5


def _upright(u: Floats, v: Floats) -> Bools:
    return (u * 3.4) % 1 < 0.5


def _halved(u: Floats, v: Floats) -> Bools:
    return v > 0.42


def _belted(u: Floats, v: Floats) -> Bools:
    is_belt: Bools = np.abs(v - 0.36) < 0.13
    return is_belt


def _crossed(u: Floats, v: Floats) -> Bools:
    across, up = np.abs((u * 1.15 + 0.5) % 1 - 0.5) / 1.15, np.abs(v - 0.38)
    is_cross: Bools = (np.minimum(across, up) < 0.065) & (np.maximum(across, up) < 0.25)
    return is_cross


def _marked(u: Floats, v: Floats) -> Bools:
    """A ring with a dot in it, on each side."""
    away = np.sqrt((((u * 1.15 + 0.5) % 1 - 0.5) / 1.15) ** 2 + (v - 0.38) ** 2)
    is_mark: Bools = (away < 0.08) | (np.abs(away - 0.2) < 0.05)
    return is_mark


PATTERNS: dict[str, Callable[[Floats, Floats], Bools]] = {
    "plain": lambda u, v: np.zeros(u.shape, dtype=bool),
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "banded": _banded,
    "zigzag": _zigzag,
    "upright": _upright,
    "halved": _halved,
    "belted": _belted,
    "crossed": _crossed,
    "marked": _marked,
}
"""Name to a function that is true where the second color is; u (around or along) and v (up) are in object units."""


def surface_colours(look: Look, shape: Shape, materials: NDArray[np.str_], points: Floats, normals: Floats) -> Floats:
    """Linear colors (N, 3) in [0, 1] of surface points (N, 3) on parts made of `materials` (N,)."""
    primary, secondary, accent = (floats(COLOURS[name]) for name in (look.primary, look.secondary, look.accent))
    u, v = _coordinates(shape, points, normals)
    patterned = np.where(PATTERNS[look.pattern](u, v)[:, None], secondary, primary)
    colors = np.empty_like(points)
    for name in set(materials.tolist()):
        chosen = materials == name
        if name in ("body", "walls"):
            colors[chosen] = patterned[chosen]
        else:
            colors[chosen] = accent if name == "accent" else floats(MATERIALS[name])
    if "walls" in {part.material for part in shape.parts}:
        _cut_windows(colors, materials == "walls", points, normals)
    return colors


def _coordinates(shape: Shape, points: Floats, normals: Floats) -> tuple[Floats, Floats]:
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    if shape.is_round:
        return np.arctan2(x, z) * np.float32(0.42), y  # 0.42 is a typical radius, so that u and v have the same scale
    steepest = np.abs(normals).argmax(axis=1)
    u = np.where(steepest == 0, z, x)
    return u, np.where(steepest == 1, z, y)


def _cut_windows(colors: Floats, is_wall: Bools, points: Floats, normals: Floats) -> None:
    """Paint two windows on every wall, and a door on one of them."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    faces_x = np.abs(normals[:, 0]) > 0.7
    along = np.where(faces_x, z, x)
    window = is_wall & (np.abs(np.abs(along) - np.float32(0.22)) < 0.09) & (np.abs(y - np.float32(0.36)) < 0.09)
    colors[window] = _WINDOW
    door = is_wall & ~faces_x & (z > 0) & (np.abs(x) < 0.085) & (y < 0.34)
    colors[door] = _DOOR
