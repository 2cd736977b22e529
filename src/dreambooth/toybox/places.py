"""The places: ground, sky and light.

Ground and sky are functions of where a camera ray ends, so a place looks consistent from every view. Textures come from a tile
of smooth noise that is sampled at several scales and shifted by the image's texture seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from dreambooth.toybox.shapes import Floats, floats

__all__ = ["SETTINGS", "Setting"]

_TILE = 128


@dataclass(frozen=True)
class Setting:
    """A place. Colors are linear, in [0, 1]."""

    ground: Callable[[Floats, Floats, int], Floats]
    """Colors (N, 3) at ground coordinates x and z; a larger -z is farther away."""
    sky: Callable[[Floats, Floats, int], Floats]
    """Colors (N, 3) at a ray's heading (radians; 0 is straight ahead) and slope (rise over run, >= 0)."""
    light: tuple[float, float, float]
    ambient: tuple[float, float, float]


@cache
def _tile() -> Floats:
    """Noise in [0, 1] that repeats every `_TILE` cells; fixed, so that an image depends only on its scene."""
    return np.random.default_rng(7).random((_TILE, _TILE), dtype=np.float32)


def _noise(x: Floats, y: Floats, seed: int) -> Floats:
    """Smooth noise in [0, 1] with features one unit wide."""
    x, y = x + np.float32(seed % 97) * np.float32(1.37), y + np.float32(seed // 97 % 89) * np.float32(1.91)
    left: Floats = np.floor(x)
    low: Floats = np.floor(y)
    across, up = x - left, y - low
    column, row = left.astype(np.int32) % _TILE, low.astype(np.int32) % _TILE
    right, high, tile = (column + 1) % _TILE, (row + 1) % _TILE, _tile()
    bottom = tile[row, column] * (1 - across) + tile[row, right] * across
    top = tile[high, column] * (1 - across) + tile[high, right] * across
    noise: Floats = bottom * (1 - up) + top * up
    return noise


def _mix(first: tuple[float, ...], second: tuple[float, ...], share: Floats) -> Floats:
    return floats(first) + (floats(second) - floats(first)) * share[:, None]


def _paint(colors: Floats, where: np.ndarray, color: tuple[float, ...]) -> None:
    colors[where] = floats(color)


def _clouds(heading: Floats, slope: Floats, seed: int, low: tuple[float, ...], high: tuple[float, ...]) -> Floats:
    colors = _mix(low, high, np.clip(slope * 3.5, 0, 1))
    puffs: Floats = 0.6 * _noise(heading * 5, slope * 14, seed) + 0.4 * _noise(heading * 11, slope * 30, seed + 3)
    white: Floats = np.clip((puffs - 0.52) * 5, 0, 1) * np.clip(slope * 12, 0, 1)
    return colors + (floats((0.95, 0.96, 0.98)) - colors) * white[:, None]


def _hills(colors: Floats, heading: Floats, slope: Floats, seed: int, *, height: float, color: tuple[float, ...]) -> Floats:
    ridge = np.float32(height) * (0.45 + 0.8 * _noise(heading * 4, np.zeros_like(heading), seed + 11))
    _paint(colors, slope < ridge, color)
    return colors


def _beach(x: Floats, z: Floats, seed: int) -> Floats:
    grain = 0.5 * _noise(x * 5, z * 5, seed) + 0.5 * _noise(x * 16, z * 16, seed)
    colors = _mix((0.62, 0.47, 0.26), (0.86, 0.71, 0.45), grain)
    shore = -2.3 + 0.5 * _noise(x * 0.8, x * 0, seed + 5)
    wave = _noise(x * 0.7, z * 1.6, seed + 7)
    sea = _mix((0.02, 0.17, 0.42), (0.10, 0.38, 0.62), wave)
    colors = np.where((z < shore)[:, None], sea, colors)
    _paint(colors, np.abs(z - shore) < 0.14, (0.92, 0.95, 0.96))
    return colors


def _moon(x: Floats, z: Floats, seed: int) -> Floats:
    dust = 0.6 * _noise(x * 2.5, z * 2.5, seed) + 0.4 * _noise(x * 9, z * 9, seed)
    colors = _mix((0.13, 0.13, 0.135), (0.33, 0.33, 0.335), dust)
    cell_x: Floats = np.floor(x * 0.9)
    cell_z: Floats = np.floor(z * 0.9)
    offset, size = _noise(cell_x * 7.3, cell_z * 5.9, seed), _noise(cell_x * 3.1, cell_z * 8.7, seed + 1)
    away = np.sqrt((x * 0.9 - cell_x - 0.35 - 0.3 * offset) ** 2 + (z * 0.9 - cell_z - 0.35 - 0.3 * size) ** 2)
    radius = 0.12 + 0.2 * size
    colors *= (1 - 0.55 * (away < radius) + 0.5 * (np.abs(away - radius) < 0.045))[:, None].astype(np.float32)
    return colors


def _stars(heading: Floats, slope: Floats, seed: int) -> Floats:
    colors = np.zeros((len(heading), 3), dtype=np.float32)
    column: Floats = np.floor(heading * 42)
    row: Floats = np.floor(slope * 42)
    _paint(colors, _noise(column * 5.17, row * 7.73, seed) > 0.8, (0.9, 0.9, 0.85))
    return colors


def _snow(x: Floats, z: Floats, seed: int) -> Floats:
    return _mix((0.62, 0.70, 0.82), (0.93, 0.95, 0.99), 0.7 * _noise(x * 1.3, z * 1.8, seed) + 0.3 * _noise(x * 7, z * 7, seed))


def _snow_sky(heading: Floats, slope: Floats, seed: int) -> Floats:
    colors = _mix((0.62, 0.70, 0.80), (0.78, 0.83, 0.90), np.clip(slope * 4, 0, 1))
    return _hills(colors, heading, slope, seed, height=0.11, color=(0.24, 0.31, 0.45))


def _grass(x: Floats, z: Floats, seed: int) -> Floats:
    blades = 0.5 * _noise(x * 14, z * 9, seed) + 0.5 * _noise(x * 3, z * 3, seed)
    return _mix((0.03, 0.17, 0.02), (0.20, 0.50, 0.07), blades)


def _grass_sky(heading: Floats, slope: Floats, seed: int) -> Floats:
    colors = _clouds(heading, slope, seed, (0.55, 0.74, 0.92), (0.22, 0.45, 0.85))
    return _hills(colors, heading, slope, seed, height=0.07, color=(0.04, 0.20, 0.06))


def _desert(x: Floats, z: Floats, seed: int) -> Floats:
    ripple = 0.5 + 0.5 * np.sin(z * 11 + x * 2 + 5 * _noise(x * 0.9, z * 0.9, seed))
    return _mix((0.62, 0.27, 0.07), (0.88, 0.46, 0.15), 0.6 * ripple + 0.4 * _noise(x * 6, z * 6, seed))


def _desert_sky(heading: Floats, slope: Floats, seed: int) -> Floats:
    colors = _mix((0.95, 0.72, 0.42), (0.86, 0.55, 0.30), np.clip(slope * 4, 0, 1))
    return _hills(colors, heading, slope, seed, height=0.08, color=(0.52, 0.20, 0.06))


def _pavement(x: Floats, z: Floats, seed: int) -> Floats:
    colors = _mix((0.035, 0.035, 0.05), (0.075, 0.075, 0.10), _noise(x * 9, z * 9, seed))
    lamps = _noise(x * 0.5, z * 0.5, seed + 9)
    return colors + (floats((0.05, 0.04, 0.015)) * lamps[:, None])


def _city_sky(heading: Floats, slope: Floats, seed: int) -> Floats:
    colors = _mix((0.03, 0.03, 0.07), (0.005, 0.005, 0.02), np.clip(slope * 3, 0, 1))
    street: Floats = np.floor(heading * 9)
    height = 0.10 + 0.30 * _noise(street * 5.3, street * 0, seed)
    is_building = slope < height
    _paint(colors, is_building, (0.015, 0.015, 0.03))
    column: Floats = np.floor(heading * 36)
    row: Floats = np.floor(slope * 30)
    is_pane = ((heading * 36) % 1 > 0.3) & ((slope * 30) % 1 > 0.35)
    is_lit = _noise(column * 3.7, row * 9.1, seed + 2) > 0.42
    _paint(colors, is_building & is_pane & is_lit, (0.90, 0.68, 0.18))
    return colors


def _wood(x: Floats, z: Floats, seed: int) -> Floats:
    plank = np.floor(z * 1.9)
    grain = 0.55 * _noise(x * 1.1 + plank * 9, z * 16, seed) + 0.45 * _noise(plank * 6.1, plank * 2.7, seed)
    colors = _mix((0.22, 0.09, 0.03), (0.52, 0.25, 0.09), grain)
    _paint(colors, (z * 1.9) % 1 < 0.06, (0.07, 0.03, 0.01))
    return colors


def _wall(heading: Floats, slope: Floats, seed: int) -> Floats:
    wave: Floats = np.sin(heading * 46 + seed % 7)
    return _mix((0.52, 0.46, 0.36), (0.70, 0.64, 0.52), 0.5 + 0.5 * wave)


def _road(x: Floats, z: Floats, seed: int) -> Floats:
    colors = _mix((0.07, 0.07, 0.075), (0.15, 0.15, 0.155), _noise(x * 12, z * 12, seed))
    _paint(colors, (np.abs(z - 0.85) < 0.075) & ((x * 0.8 + seed % 10 / 10) % 1 < 0.62), (0.90, 0.66, 0.05))
    verge = _grass(x, z, seed)
    return np.where((z < -1.7)[:, None], verge, colors)


def _day_sky(heading: Floats, slope: Floats, seed: int) -> Floats:
    return _clouds(heading, slope, seed, (0.60, 0.78, 0.93), (0.25, 0.50, 0.88))


SETTINGS: dict[str, Setting] = {
    "beach": Setting(_beach, _day_sky, (1.05, 1.0, 0.92), (0.34, 0.36, 0.40)),
    "moon": Setting(_moon, _stars, (1.15, 1.13, 1.08), (0.20, 0.20, 0.21)),
    "snow": Setting(_snow, _snow_sky, (0.78, 0.80, 0.84), (0.38, 0.40, 0.44)),
    "grass": Setting(_grass, _grass_sky, (1.05, 1.0, 0.90), (0.32, 0.35, 0.36)),
    "desert": Setting(_desert, _desert_sky, (1.10, 0.95, 0.76), (0.36, 0.31, 0.26)),
    "city": Setting(_pavement, _city_sky, (0.62, 0.57, 0.50), (0.24, 0.24, 0.29)),
    "table": Setting(_wood, _wall, (0.98, 0.90, 0.78), (0.34, 0.32, 0.29)),
    "road": Setting(_road, _day_sky, (1.05, 1.0, 0.94), (0.34, 0.35, 0.37)),
}
"""Key of a place to its appearance."""
