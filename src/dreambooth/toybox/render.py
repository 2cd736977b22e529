"""Renders a scene: marches rays from a pinhole camera through the object's signed distance field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreambooth.toybox.places import SETTINGS
from dreambooth.toybox.shapes import SHAPES, Floats, Shape, floats
from dreambooth.toybox.surfaces import surface_colours
from dreambooth.toybox.world import Look, Scene

__all__ = ["render", "subject_mask"]

_SUPERSAMPLING = 2
_HALF_VIEW = 0.36  # tangent of half the field of view
_NEAR_ENOUGH = 0.004
_MOST_STEPS = 48
_SHADOW_STEPS = 18
_SHADOW_SOFTNESS = 10.0


@dataclass(frozen=True)
class _Solid:
    """An object in the world: its shape, rotated and stretched."""

    look: Look
    shape: Shape
    turned: Floats
    """Rotation from world to object coordinates, (3, 3); its inverse is its transpose."""

    @property
    def centre(self) -> Floats:
        return floats((0, self.shape.centre * self.look.stretch, 0))

    @property
    def radius(self) -> float:
        return self.shape.radius * max(1.0, self.look.stretch)

    def inside(self, points: Floats) -> Floats:
        """The points in object coordinates."""
        own = points @ self.turned.T
        own[:, 1] /= np.float32(self.look.stretch)
        return own

    def distances(self, own: Floats) -> Floats:
        """Distances of points, in object coordinates, from each part, (parts, N)."""
        return np.stack([part.distance(own) for part in self.shape.parts])

    def distance(self, points: Floats) -> Floats:
        """Distances of points, in world coordinates, from the object; lower bounds of the true distance."""
        own = self.inside(points)
        nearest = self.shape.parts[0].distance(own)
        for part in self.shape.parts[1:]:
            nearest = np.minimum(nearest, part.distance(own))
        return nearest * np.float32(self.shape.caution * min(1.0, self.look.stretch))


def render(scene: Scene, side: int, *, width: int | None = None) -> NDArray[np.uint8]:
    """The image of a scene, (side, side, 3), with 8 bits per channel; each pixel is the mean of four rays.

    With another `width` it is (side, width, 3), and shows more or less to the left and right.
    """
    eye, rays = _camera(scene, side * _SUPERSAMPLING, (width or side) * _SUPERSAMPLING)
    setting, solid = SETTINGS[scene.place], _solid(scene)
    towards_light = _light(scene)
    light, ambient = floats(setting.light), floats(setting.ambient)
    seed = scene.view.texture

    colors = np.empty_like(rays)
    is_sky = rays[:, 1] >= -1e-4
    ahead = np.sqrt(rays[is_sky, 0] ** 2 + rays[is_sky, 2] ** 2)
    colors[is_sky] = setting.sky(np.arctan2(rays[is_sky, 0], -rays[is_sky, 2]), np.maximum(rays[is_sky, 1], 0) / ahead, seed)

    reach = np.full(len(rays), np.inf, dtype=np.float32)
    reach[~is_sky] = -eye[1] / rays[~is_sky, 1]
    ground = eye + rays[~is_sky] * reach[~is_sky, None]
    lit = _shadow(solid, ground, towards_light)
    painted = setting.ground(ground[:, 0] - np.float32(scene.view.aside), ground[:, 2], seed)
    shade = ambient * _openness(solid, ground)[:, None] + light * (lit * towards_light[1])[:, None]
    colors[~is_sky] = painted * shade

    hits, distance = _march(solid, eye, rays)
    seen = hits[distance[hits] < reach[hits]]
    if len(seen):
        points = eye + rays[seen] * distance[seen, None]
        colors[seen] = _shaded(solid, points, rays[seen], towards_light, light=light, ambient=ambient)
    return _developed(colors, side)


def subject_mask(scene: Scene, side: int, *, width: int | None = None) -> NDArray[np.uint8]:
    """How much of each pixel of `render` shows the object, (side, width): 255 is all of it; its shadow is not part of it."""
    eye, rays = _camera(scene, side * _SUPERSAMPLING, (width or side) * _SUPERSAMPLING)
    hits, distance = _march(_solid(scene), eye, rays)
    reach = np.full(len(rays), np.inf, dtype=np.float32)
    is_down = rays[:, 1] < -1e-4
    reach[is_down] = -eye[1] / rays[is_down, 1]
    shown = np.zeros(len(rays), dtype=np.float32)
    shown[hits[distance[hits] < reach[hits]]] = 1
    means = shown.reshape(side, _SUPERSAMPLING, -1, _SUPERSAMPLING).mean(axis=(1, 3))
    mask: NDArray[np.uint8] = np.round(255 * means).astype(np.uint8)
    return mask


def _camera(scene: Scene, fine: int, fine_width: int | None = None) -> tuple[Floats, Floats]:
    """The camera position, (3,), and the unit directions of its rays, (fine * fine_width, 3), row by row from the top left.

    Without `fine_width` the image is square.
    """
    fine_width = fine_width or fine
    view = scene.view
    down, up = np.sin(view.elevation), np.cos(view.elevation)
    target = floats((-view.aside, 0.42, 0))
    eye = target + np.float32(view.distance) * floats((0, down, up))
    vertical, across = ((np.arange(num, dtype=np.float32) + 0.5) / num * 2 - 1 for num in (fine, fine_width))
    x, y = np.meshgrid(across * np.float32(_HALF_VIEW * fine_width / fine), -vertical * np.float32(_HALF_VIEW))
    rays = np.stack([x, y * up - down, -up - y * down], axis=-1).reshape(-1, 3).astype(np.float32)
    return eye.astype(np.float32), rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _solid(scene: Scene) -> _Solid:
    cosine, sine = np.cos(scene.view.turn), np.sin(scene.view.turn)
    turned = floats(((cosine, 0, -sine), (0, 1, 0), (sine, 0, cosine)))
    return _Solid(scene.look, SHAPES[scene.look.class_word], turned)


def _light(scene: Scene) -> Floats:
    view = scene.view
    flat = np.cos(view.light_elevation)
    return floats((np.sin(view.light_turn) * flat, np.sin(view.light_elevation), np.cos(view.light_turn) * flat))


def _ball_span(solid: _Solid, origin: Floats, rays: Floats) -> tuple[np.ndarray, Floats, Floats]:
    """The rays that intersect the sphere around the object, and where each of them enters and leaves it."""
    offset = origin - solid.centre
    middle = -(rays @ offset) if offset.ndim == 1 else -np.einsum("nk,nk->n", np.broadcast_to(rays, offset.shape), offset)
    apart = (offset * offset).sum(axis=-1) - middle * middle
    half = solid.radius**2 - apart
    meets = np.flatnonzero((half > 0) & (middle + np.sqrt(np.maximum(half, 0)) > 0))
    span = np.sqrt(half[meets])
    return meets, np.maximum(middle[meets] - span, 0), middle[meets] + span


def _march(solid: _Solid, eye: Floats, rays: Floats) -> tuple[np.ndarray, Floats]:
    """Indices of the rays that hit the object, and the distance along every ray (infinite where there is no hit)."""
    alive, along, until = _ball_span(solid, eye, rays)
    found = np.full(len(rays), np.inf, dtype=np.float32)
    for _ in range(_MOST_STEPS):
        if not len(alive):
            break
        apart = solid.distance(eye + rays[alive] * along[:, None])
        near = apart < _NEAR_ENOUGH
        found[alive[near]] = along[near]
        along = along + apart
        stays = ~near & (along < until)
        alive, along, until = alive[stays], along[stays], until[stays]
    return np.flatnonzero(np.isfinite(found)), found


def _shadow(solid: _Solid, ground: Floats, towards_light: Floats) -> Floats:
    """Share of the light that reaches ground points, in [0, 1]; soft at the edge, where a ray passes near the object."""
    lit = np.ones(len(ground), dtype=np.float32)
    alive, along, until = _ball_span(solid, ground, towards_light)
    for _ in range(_SHADOW_STEPS):
        if not len(alive):
            break
        apart = solid.distance(ground[alive] + towards_light * along[:, None])
        lit[alive] = np.minimum(lit[alive], np.clip(_SHADOW_SOFTNESS * apart / np.maximum(along, 0.05), 0, 1))
        along = along + np.maximum(apart, 0.03)
        stays = (along < until) & (lit[alive] > 0.01)
        alive, along, until = alive[stays], along[stays], until[stays]
    return lit


def _openness(solid: _Solid, ground: Floats) -> Floats:
    """Share of the sky visible from ground points, in [0, 1]: smaller close to the object."""
    near = np.flatnonzero(ground[:, 0] ** 2 + ground[:, 2] ** 2 < (solid.radius + 0.35) ** 2)
    openness = np.ones(len(ground), dtype=np.float32)
    openness[near] = 0.35 + 0.65 * np.clip(solid.distance(ground[near]) / 0.35, 0, 1)
    return openness


def _shaded(solid: _Solid, points: Floats, rays: Floats, towards_light: Floats, *, light: Floats, ambient: Floats) -> Floats:
    own = solid.inside(points)
    parts = solid.distances(own).argmin(axis=0)
    materials = np.array([part.material for part in solid.shape.parts])[parts]
    normals = _normals(solid, points)
    painted = surface_colours(solid.look, solid.shape, materials, own, normals @ solid.turned.T)
    facing = np.clip(normals @ towards_light, 0, 1)[:, None]
    sky = (0.65 + 0.35 * normals[:, 1])[:, None]
    halfway = towards_light - rays
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    gloss = 0.22 * np.clip((normals * halfway).sum(axis=1), 0, 1)[:, None] ** 28
    shaded: Floats = painted * (ambient * sky + light * facing * np.float32(0.85)) + light * gloss.astype(np.float32)
    return shaded


def _normals(solid: _Solid, points: Floats) -> Floats:
    """Surface normals: gradients of the distance, estimated from four nearby points."""
    corners = floats(((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)))
    normals = np.zeros_like(points)
    for corner in corners:
        normals += corner * solid.distance(points + corner * np.float32(0.004))[:, None]
    unit: Floats = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return unit


def _developed(colors: Floats, side: int) -> NDArray[np.uint8]:
    """Linear light to 8 bits: the mean over each pixel's rays, then gamma correction."""
    pixels = np.clip(colors, 0, 1).reshape(side, _SUPERSAMPLING, -1, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    developed: NDArray[np.uint8] = np.round(255 * pixels ** (1 / 2.2)).astype(np.uint8)
    return developed
