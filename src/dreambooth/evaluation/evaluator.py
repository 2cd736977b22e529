"""What a model learned, as numbers: from the pictures that it made of some prompts, and the photos of the subject.

Nothing here knows where pictures come from: whoever asks hands in the function that makes them, so a model in a file and one
that is being trained are measured alike. Shapes: P prompts, S pictures of each, N class images, M photos, C channels, H and W
sizes in pixels, D widths of features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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
"""Makes the pictures asked for, in their order: pixels in [0, 1], (3, H, W), all of one size."""


@dataclass(frozen=True)
class Measure:
    """What a number says."""

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
"""Every score, in the order in which they are shown."""


@dataclass(frozen=True)
class PromptSet:
    """What every model is asked to show."""

    prompts: tuple[str, ...]
    """With the subject, as the model is told."""
    descriptions: tuple[str, ...]
    """The same without the token, as CLIP is told: it has never heard that word."""
    class_prompt: str | None
    """The class alone; None where the subject's class has no name."""
    num_images: int
    num_class_images: int

    def pictures(self) -> list[Picture]:
        """All of the first prompt, all of the second, ..., then the class images; picture k of each starts from noise k."""
        of_class = [] if self.class_prompt is None else [(self.class_prompt, self.num_class_images)]
        asked = [*((prompt, self.num_images) for prompt in self.prompts), *of_class]
        return [Picture(prompt, index) for prompt, num in asked for index in range(num)]

    def fewer(self, num_images: int) -> PromptSet:
        """The same prompts with their first `num_images` pictures, and not more class images than go with so many."""
        return replace(self, num_images=num_images, num_class_images=min(self.num_class_images, CLASS_IMAGES_EACH * num_images))


@dataclass(frozen=True)
class Samples:
    """What a model made of them, pixels in [0, 1]."""

    subject_PSCHW: Tensor
    class_NCHW: Tensor
    """Without any where the class has no name."""

    def fewer(self, prompt_set: PromptSet) -> Samples:
        """Those that answer questions with fewer pictures of the same prompts."""
        return Samples(self.subject_PSCHW[:, : prompt_set.num_images], self.class_NCHW[: prompt_set.num_class_images])


@dataclass(frozen=True)
class Encoders:
    """What looks at pictures."""

    dino: ImageEncoder
    clip: TextImageEncoder
    distance: PerceptualDistance | None
    """What DIV and copies are measured by; None lets DINO do it, by 1 - cosine."""
    cache: FeatureCache

    @property
    def distance_name(self) -> str:
        """What the distance between two pictures is called."""
        return f"1 - cosine of {self.dino.name}" if self.distance is None else self.distance.name

    def features(self, encoder: ImageEncoder, pictures: Iterable[Tensor]) -> Tensor:
        """What one of them makes of pictures in [0, 1], (3, H, W) each, kept for the next time; (N, D)."""
        return features_of(encoder, [PictureSource.of_pixels(pixels_CHW) for pixels_CHW in pictures], self.cache)


@dataclass(frozen=True)
class Measured:
    """The scores of a model by name, those that could be measured, in the order of `MEASURES`."""

    scores: Mapping[str, Score]
    copying: Copying | None
    """None where no two photos differ, so that there is no spread."""

    @property
    def is_copying(self) -> bool:
        """Whether most pictures are known to repeat a photo."""
        return self.copying is not None and self.copying.is_alarming


@dataclass(frozen=True)
class Evaluator:
    """The same questions, photos and judges for every model that is compared."""

    prompt_set: PromptSet
    photos: Sequence[Tensor]
    """Pixels in [0, 1], (3, H, W), of the size of the pictures."""
    encoders: Encoders
    seed: int
    """Number from which the intervals follow."""

    def fewer(self, num_images: int) -> Evaluator:
        """The same with fewer pictures, see `PromptSet.fewer`."""
        return replace(self, prompt_set=self.prompt_set.fewer(num_images))

    def samples(self, make: MakePictures) -> Samples:
        """Let a model make its pictures."""
        asked = self.prompt_set
        made = torch.stack([pixels_CHW.detach().float().cpu() for pixels_CHW in make(asked.pictures())])
        num = len(asked.prompts) * asked.num_images
        return Samples(made[:num].reshape(len(asked.prompts), asked.num_images, *made.shape[1:]), made[num:])

    def photo_scores(self) -> dict[str, Score]:
        """How much the photos look like each other, by the names of the scores that these bound; empty for a single photo."""
        if len(self.photos) < 2:
            return {}
        encoders = {"DINO": self.encoders.dino, "CLIP-I": self.encoders.clip}
        return {
            name: Score(name, own_cosine(self._features(encoder, self.photos)), None, None, encoder.name)
            for name, encoder in encoders.items()
        }

    def photos_on_prompts(self) -> float:
        """CLIP-T of the photos themselves, every photo with every prompt: that of a model that shows them whatever is asked."""
        clip = self.encoders.clip
        return float(cosines(self._features(clip, self.photos), clip.encode_text(self.prompt_set.descriptions)).mean())

    def score(self, samples: Samples, *, before: Samples | None) -> Measured:
        """All scores of one model. `before` is what the base model made of the same questions; without it there is no drift.

        Where the class has no name there is neither drift nor PRES, with one picture of each prompt no DIV.
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
        """Of pictures in [0, 1], (3, H, W) each, by the encoder that tells individuals apart, (N, D)."""
        return self._features(self.encoders.dino, pictures)

    def _features(self, encoder: ImageEncoder, pictures: Sequence[Tensor]) -> Tensor:
        return self.encoders.features(encoder, pictures)

    def _distances(self, samples: Samples, dino_ND: Tensor, photos_MD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the pictures of each prompt from each other (P, S, S), of all from the photos (N, M), of the photos (M, M)."""
        num_prompts, num_each = samples.subject_PSCHW.shape[:2]
        if self.encoders.distance is None:
            features_PSD = dino_ND.view(num_prompts, num_each, -1)
            among = [1 - cosines(features_SD, features_SD) for features_SD in features_PSD]
            return torch.stack(among), 1 - cosines(dino_ND, photos_MD), 1 - cosines(photos_MD, photos_MD)
        # prompt by prompt: the levels of all pictures at once are more than a small device holds
        photos_MCHW = torch.stack(list(self.photos))
        blocks = [self.encoders.distance.between(torch.cat([pictures, photos_MCHW])) for pictures in samples.subject_PSCHW]
        among_PSS = torch.stack([block[:num_each, :num_each] for block in blocks])
        from_photos_NM = torch.cat([block[:num_each, num_each:] for block in blocks])
        return among_PSS, from_photos_NM, blocks[0][num_each:, num_each:]


def confusion(evaluators: Sequence[Evaluator], samples: Sequence[Samples]) -> Tensor:
    """Whether a model tells its subjects apart, by DINO: see `confusion_matrix`, (K, K) for K exams of one model."""
    generated = [
        evaluator.dino_features(list(one.subject_PSCHW.flatten(0, 1)))
        for evaluator, one in zip(evaluators, samples, strict=True)
    ]
    return confusion_matrix(generated, [evaluator.dino_features(evaluator.photos) for evaluator in evaluators])
