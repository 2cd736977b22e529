"""The sampled images that models are scored by, cached as files: existing ones are reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.data.photos import read_pixels
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import PhotoError
from dreambooth.files import remove_stale
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.pages.images import save_picture
from dreambooth.pictures.maker import made_pictures
from dreambooth.runtime.device import release_memory
from dreambooth.sampling.names import file_stem
from dreambooth.sampling.records import Picture
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["SampleCache", "sample_settings"]

_KEY_LETTERS = 10


@dataclass(frozen=True)
class SampleCache:
    """The images of one model. A file's name ends in a key of everything that determines the image."""

    folder: Path
    model: ModelWeights
    name: str
    """The model's name in progress messages."""
    sample: SampleSettings
    device: torch.device

    def path(self, picture: Picture) -> Path:
        """The file of an image, whether or not it exists."""
        asked = self.sample
        made_of = (picture.prompt, picture.index, self.model.digest(), self.model.family.resolution)
        how = (asked.sampler, asked.sampling_steps, asked.guidance_scale, asked.seed)
        key = hashlib.sha256(json.dumps([*made_of, *how]).encode()).hexdigest()[:_KEY_LETTERS]
        return self.folder / f"{file_stem(picture.prompt)}-{picture.index:02d}-{key}.png"

    def missing(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The images that have no file yet, or a file that cannot be theirs."""
        return [picture for picture in dict.fromkeys(pictures) if self._kept(picture) is None]

    def _kept(self, picture: Picture) -> Tensor | None:
        """Its pixels if its file holds an image of the model's size; the user may have replaced the file."""
        size = Size.square(self.model.family.resolution)
        try:
            pixels_CHW = _pixels(self.path(picture)) if self.path(picture).is_file() else None
        except PhotoError:
            return None
        return pixels_CHW if pixels_CHW is not None and pixels_CHW.shape == (3, size.height, size.width) else None

    def make(self, pictures: Sequence[Picture], display: Display) -> list[Tensor]:
        """The pixels of all images, in [0, 1], (3, H, W), from their files; the model is built only if one is missing."""
        kept = {picture: self._kept(picture) for picture in dict.fromkeys(pictures)}
        self._fill(list(kept), {picture for picture, pixels_CHW in kept.items() if pixels_CHW is None}, display)
        whole = {picture: _pixels(self.path(picture)) if found is None else found for picture, found in kept.items()}
        return [whole[picture] for picture in pictures]

    def fill(self, pictures: Sequence[Picture], display: Display) -> None:
        """Write the files of those that are missing; see `make`."""
        self._fill(list(dict.fromkeys(pictures)), set(self.missing(pictures)), display)

    def _fill(self, pictures: Sequence[Picture], missing: set[Picture], display: Display) -> None:
        """Each image is written as soon as it is generated, so stopping loses one batch at most.

        A batch with a missing image is generated whole: another batch size would round differently, and what is resumed must be
        the same to the last bit.
        """
        size = self.sample.batch_size
        batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        again = [picture for batch in batches if not missing.isdisjoint(batch) for picture in batch]
        if not again:
            return
        remove_stale(self.folder)
        made_now = made_pictures(self.sample, self.model, again, display, name=self.name, device=self.device)
        with closing(made_now) as made:
            for one in made:
                if one.picture in missing:
                    save_picture(self.path(one.picture), one.pixels_CHW, one.text)
        release_memory(self.device)


def sample_settings(asked: EvaluationSettings, *, device: str | None) -> SampleSettings:
    """The sampling settings of an evaluation. The guidance scale must be filled in."""
    assert asked.guidance_scale is not None, "filled in"
    return SampleSettings(
        sampling_steps=asked.sampling_steps,
        guidance_scale=asked.guidance_scale,
        sampler=asked.sampler,
        seed=asked.seed,
        batch_size=asked.batch_size,
        device=device,
    )


def _pixels(path: Path) -> Tensor:
    return torch.from_numpy(read_pixels(path, background="white")).permute(2, 0, 1).float() / 255
