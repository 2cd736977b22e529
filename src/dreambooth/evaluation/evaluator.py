"""Scores of a model, computed from its images for a set of prompts and the photos of the subject.

The caller passes a function that generates the images, so a model in a file and a model in training are scored the same way.
Shapes: P prompts, S images per prompt, N class images, M photos, C channels, H and W sizes in pixels, D widths of features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dreambooth.measures.balance import Span, spans
from dreambooth.measures.encoders import ImageEncoder, TextImageEncoder
from dreambooth.measures.features import FeatureCache, PictureSource, features_of
from dreambooth.measures.intervals import Score, score
from dreambooth.measures.metrics import (
    Copying,
    confusion_matrix,
    copying,
    cosines,
    div_parts,
    drifts,
    own_cosine,
    prompt_cosines,
    subject_cosines,
)
from dreambooth.measures.perceptual import PerceptualDistance
from dreambooth.measures.settings import CLASS_IMAGES_EACH
from dreambooth.sampling.records import Picture

__all__ = [
    "MEASURES",
    "Encoders",
    "Evaluator",
    "MakePictures",
    "Measure",
    "Measured",
    "PromptSet",
    "Samples",
    "confusion",
]

MakePictures = Callable[[Sequence[Picture]], Iterable[Tensor]]
"""Generates the requested images in order: pixels in [0, 1], (3, H, W), all of one size."""


@dataclass(frozen=True)
class Measure:
    """A score and its meaning."""

    name: str
    meaning: str
    is_higher_better: bool


MEASURES = (
    Measure("DINO", "Similarity of the subject's images to the photos, by an encoder that distinguishes individuals.", True),
    Measure("CLIP-I", "Similarity of the subject's images to the photos, by an encoder that distinguishes categories.", True),
    Measure("CLIP-T", "Similarity of the subject's images to their prompts.", True),
    Measure("PRES", "Similarity of class images to the photos: how far the subject leaked into its class.", False),
    Measure("drift", "Distance of class images from the base model's images with the same seeds.", False),
    Measure("DIV", "Differences between images of the same prompt.", True),
)
"""Every score, in display order."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts that every model generates."""

    prompts: tuple[str, ...]
    """Prompts with the subject's token, for the model."""
    descriptions: tuple[str, ...]
    """The prompts without the token, for CLIP, which does not know it."""
    class_prompt: str | None
    """The class without the subject; None if the class has no name."""
    num_images: int
    num_class_images: int

    def pictures(self) -> list[Picture]:
        """All of the first prompt, all of the second, ..., then the class images; image k of each starts from noise k."""
        of_class = [] if self.class_prompt is None else [(self.class_prompt, self.num_class_images)]
        asked = [*((prompt, self.num_images) for prompt in self.prompts), *of_class]
        return [Picture(prompt, index) for prompt, num in asked for index in range(num)]

    def fewer(self, num_images: int) -> PromptSet:
        """The same prompts with only their first `num_images` images, and proportionally few class images."""
        return replace(self, num_images=num_images, num_class_images=min(self.num_class_images, CLASS_IMAGES_EACH * num_images))


@dataclass(frozen=True)
class Samples:
    """A model's images for a prompt set, pixels in [0, 1]."""

    subject_PSCHW: Tensor
    class_NCHW: Tensor
    """Empty if the class has no name."""

    def fewer(self, prompt_set: PromptSet) -> Samples:
        """The samples of a prompt set with fewer images of the same prompts."""
        return Samples(self.subject_PSCHW[:, : prompt_set.num_images], self.class_NCHW[: prompt_set.num_class_images])


@dataclass(frozen=True)
class Encoders:
    """The encoders of an evaluation, with their feature cache."""

    dino: ImageEncoder
    clip: TextImageEncoder
    distance: PerceptualDistance | None
    """Distance for DIV and copies; None uses 1 - cosine of DINO."""
    cache: FeatureCache
    say: Callable[[str], None] = lambda _: None
    """Called with a sentence about damaged features, which are computed again."""

    @property
    def distance_name(self) -> str:
        """The name of the distance between two images."""
        return f"1 - cosine of {self.dino.name}" if self.distance is None else self.distance.name

    def features(self, encoder: ImageEncoder, pictures: Iterable[Tensor]) -> Tensor:
        """The features of images in [0, 1], (3, H, W) each, by one of the encoders; cached; (N, D)."""
        sources = [PictureSource.of_pixels(pixels_CHW) for pixels_CHW in pictures]
        return features_of(encoder, sources, self.cache, say=self.say)


@dataclass(frozen=True)
class Measured:
    """The measured scores of a model by name, in the order of `MEASURES`."""

    scores: Mapping[str, Score]
    copying: Copying | None
    """None if no two photos differ, so that there is no spread."""

    @property
    def values(self) -> dict[str, float]:
        """The scores as numbers, by name."""
        return {name: one.value for name, one in self.scores.items()}

    @property
    def is_copying(self) -> bool:
        """Whether most images are copies of a photo."""
        return self.copying is not None and self.copying.is_alarming


@dataclass(frozen=True)
class Evaluator:
    """The prompts, photos and encoders shared by all compared models."""

    prompt_set: PromptSet
    photos: Sequence[Tensor]
    """Pixels in [0, 1], (3, H, W), of the same size as the samples."""
    encoders: Encoders
    seed: int
    """Random seed of the confidence intervals."""

    def fewer(self, num_images: int) -> Evaluator:
        """The same with fewer images, see `PromptSet.fewer`."""
        return replace(self, prompt_set=self.prompt_set.fewer(num_images))

    def samples(self, make: MakePictures) -> Samples:
        """Let a model generate its images."""
        asked = self.prompt_set
        made = torch.stack([pixels_CHW.detach().float().cpu() for pixels_CHW in make(asked.pictures())])
        num = len(asked.prompts) * asked.num_images
        return Samples(made[:num].reshape(len(asked.prompts), asked.num_images, *made.shape[1:]), made[num:])

    def photo_scores(self) -> dict[str, Score]:
        """The similarity of the photos to each other, by the names of the scores it bounds; empty for a single photo."""
        if len(self.photos) < 2:
            return {}
        encoders = {"DINO": self.encoders.dino, "CLIP-I": self.encoders.clip}
        return {
            name: Score(name, own_cosine(self._features(encoder, self.photos)), None, None, encoder.name)
            for name, encoder in encoders.items()
        }

    def photos_on_prompts(self) -> float:
        """CLIP-T of every photo with every prompt: the score of a model that ignores the prompt and copies photos."""
        clip = self.encoders.clip
        return float(cosines(self._features(clip, self.photos), clip.encode_text(self.prompt_set.descriptions)).mean())

    def spans(self, before: Samples) -> dict[str, Span]:
        """The ends of every score between the base model, whose samples are `before`, and the photos, for the balance."""
        photos = {name: one.value for name, one in self.photo_scores().items()} or {"DINO": 1.0, "CLIP-I": 1.0}
        return spans(self.score(before, before=None).values, {**photos, "CLIP-T": self.photos_on_prompts()})

    def score(self, samples: Samples, *, before: Samples | None) -> Measured:
        """All scores of one model. `before` are the base model's samples of the same prompts; without them there is no drift.

        Without a class name there is no drift and no PRES; with one image per prompt there is no DIV.
        """
        dino, clip, asked = self.encoders.dino, self.encoders.clip, self.prompt_set
        subject, class_images = list(samples.subject_PSCHW.flatten(0, 1)), list(samples.class_NCHW)
        shape = samples.subject_PSCHW.shape[:2]
        dino_ND, dino_photos_MD = self._features(dino, subject), self._features(dino, self.photos)
        clip_ND, clip_photos_MD = self._features(clip, subject), self._features(clip, self.photos)
        text_ND = clip.encode_text(asked.descriptions).repeat_interleave(asked.num_images, dim=0)
        found = {
            "DINO": (subject_cosines(dino_ND, dino_photos_MD).view(shape), dino.name),
            "CLIP-I": (subject_cosines(clip_ND, clip_photos_MD).view(shape), clip.name),
            "CLIP-T": (prompt_cosines(clip_ND, text_ND).view(shape), clip.name),
        }
        if class_images:
            class_ND = self._features(dino, class_images)
            found["PRES"] = (subject_cosines(class_ND, dino_photos_MD)[None], dino.name)
            if before is not None:
                found["drift"] = (drifts(self._features(dino, list(before.class_NCHW)), class_ND)[None], dino.name)
        among_PSS, from_photos_NM, of_photos_MM = self._distances(samples, dino_ND, dino_photos_MD)
        if asked.num_images > 1:
            found["DIV"] = (div_parts(among_PSS), self.encoders.distance_name)
        return Measured(
            {name: score(name, values_PS, encoder=encoder, seed=self.seed) for name, (values_PS, encoder) in found.items()},
            copying(from_photos_NM, of_photos_MM),
        )

    def dino_features(self, pictures: Sequence[Tensor]) -> Tensor:
        """DINO features of images in [0, 1], (3, H, W) each, (N, D)."""
        return self._features(self.encoders.dino, pictures)

    def _features(self, encoder: ImageEncoder, pictures: Sequence[Tensor]) -> Tensor:
        return self.encoders.features(encoder, pictures)

    def _distances(self, samples: Samples, dino_ND: Tensor, photos_MD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances between images of a prompt (P, S, S), between images and photos (N, M), and between photos (M, M)."""
        num_prompts, num_each = samples.subject_PSCHW.shape[:2]
        if self.encoders.distance is None:
            features_PSD = dino_ND.view(num_prompts, num_each, -1)
            among = [1 - cosines(features_SD, features_SD) for features_SD in features_PSD]
            return torch.stack(among), 1 - cosines(dino_ND, photos_MD), 1 - cosines(photos_MD, photos_MD)
        # prompt by prompt: the levels of all images together exceed the memory of a small device
        photos_MCHW = torch.stack(list(self.photos))
        blocks = [self.encoders.distance.between(torch.cat([pictures, photos_MCHW])) for pictures in samples.subject_PSCHW]
        among_PSS = torch.stack([block[:num_each, :num_each] for block in blocks])
        from_photos_NM = torch.cat([block[:num_each, num_each:] for block in blocks])
        return among_PSS, from_photos_NM, blocks[0][num_each:, num_each:]


def confusion(evaluators: Sequence[Evaluator], samples: Sequence[Samples]) -> Tensor:
    """The confusion between the K subjects of a model by DINO, (K, K): see `confusion_matrix`."""
    generated = [
        evaluator.dino_features(list(one.subject_PSCHW.flatten(0, 1)))
        for evaluator, one in zip(evaluators, samples, strict=True)
    ]
    return confusion_matrix(generated, [evaluator.dino_features(evaluator.photos) for evaluator in evaluators])
