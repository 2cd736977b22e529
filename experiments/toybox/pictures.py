"""The training images of the bundled model, rendered once and stored in shards.

The contents of image k are a pure function of the seed and k, so they are recomputed, not stored, and rendering can stop and
resume at any time.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dreambooth.files import atomic_file, remove_leftovers
from dreambooth.toybox.captions import caption
from dreambooth.toybox.judge import truth
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import individuals, random_subject
from dreambooth.toybox.world import Scene, random_scene, random_view
from experiments.toybox.lookalikes import FIRST_SUBJECT, lookalike_scene

__all__ = ["Drawn", "PictureSet", "mirrored_at_random", "to_pixels"]

_SHARD = 1000
_HELD_OUT = 1000
_INDIVIDUAL_SHARE = 7  # every seventh image shows a named individual


@dataclass(frozen=True)
class Drawn:
    """The contents of an image: the scene, and the name of the individual if it has one."""

    scene: Scene
    name: str | None


@dataclass(frozen=True)
class PictureSet:
    """`num` images of `side` pixels in `folder`."""

    folder: Path
    num: int
    side: int
    seed: int
    shows: Literal["world", "subjects", "lookalikes"] = "world"
    """Ordinary objects and named individuals, or a new subject in every image, or groups of `lookalikes.py`."""

    @property
    def num_seen(self) -> int:
        """Number of training images; the rest, a tenth but at most 1000, is held out for CLIP and the judge."""
        return self.num - min(_HELD_OUT, self.num // 10)

    def record(self, index: int) -> Drawn:
        """The contents of image `index`."""
        if self.shows == "lookalikes":
            return Drawn(lookalike_scene(self.seed, index), None)
        random = np.random.default_rng([self.seed, index, 0])
        scene, name = random_scene(random), None
        if self.shows == "subjects":
            return Drawn(Scene(random_subject(int(random.integers(FIRST_SUBJECT, 2**31))), scene.place, scene.view), None)
        if index % _INDIVIDUAL_SHARE == 0:
            named = individuals()
            name = list(named)[index // _INDIVIDUAL_SHARE % len(named)]
            scene = Scene(named[name], scene.place, random_view(random))
        return Drawn(scene, name)

    def caption(self, index: int, *, draw: int) -> str:
        """A caption of image `index`; each `draw` may choose different words."""
        drawn = self.record(index)
        return caption(np.random.default_rng([self.seed, index, 1 + draw]), drawn.scene, name=drawn.name)

    def labels(self) -> dict[str, Tensor]:
        """The true labels of all images, (num,) for each attribute."""
        answers = [truth(self.record(index).scene) for index in range(self.num)]
        return {name: torch.tensor([answer[name] for answer in answers]) for name in answers[0]}

    def num_missing(self) -> int:
        """Number of images that are not rendered yet."""
        return sum(self._size(shard) for shard in self._missing())

    def render_missing(self, *, processes: int, advance: Callable[[int], None]) -> None:
        """Render the missing shards; `advance` is called with the number of images of each."""
        if not (missing := self._missing()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        ignoring_interrupts = (signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
        with multiprocessing.get_context("spawn").Pool(processes, signal.signal, ignoring_interrupts) as pool:
            for count in pool.imap_unordered(partial(_render_shard, self), missing):
                advance(count)

    def _missing(self) -> list[int]:
        return [shard for shard in range(-(-self.num // _SHARD)) if not self._path(shard).exists()]

    def load(self, num: int | None = None) -> Tensor:
        """The first `num` images (default: all), (num, side, side, 3) uint8; only the shards that hold them are read."""
        count = self.num if num is None else min(num, self.num)
        shards = [np.load(self._path(shard)) for shard in range(-(-count // _SHARD))]
        return torch.from_numpy(np.concatenate(shards)[:count])

    def _path(self, shard: int) -> Path:
        return self.folder / f"pictures-{shard:05d}.npy"

    def _size(self, shard: int) -> int:
        return min(_SHARD, self.num - shard * _SHARD)


def _render_shard(pictures: PictureSet, shard: int) -> int:
    size = pictures._size(shard)
    rendered = np.stack([render(pictures.record(shard * _SHARD + index).scene, pictures.side) for index in range(size)])
    with atomic_file(pictures._path(shard)) as partial_path, partial_path.open("wb") as file:
        np.save(file, rendered)
    return size


def to_pixels(pictures_BHWC: Tensor) -> Tensor:
    """8-bit images as pixels in [-1, 1], (B, C, H, W) float32."""
    return pictures_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def mirrored_at_random(pixels_BCHW: Tensor, random: torch.Generator) -> Tensor:
    """Mirror a random half of the images in place; returns the same tensor."""
    is_mirrored_B = torch.rand(len(pixels_BCHW), generator=random) < 0.5
    pixels_BCHW[is_mirrored_B] = pixels_BCHW[is_mirrored_B].flip(3)
    return pixels_BCHW
