"""The scores of a model from pictures whose features are known: colours stand for what a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.evaluation.evaluator import MEASURES, Encoders, Evaluator, Measured, PromptSet, Samples, confusion
from dreambooth.measures.features import FeatureCache
from dreambooth.measures.metrics import Copying
from dreambooth.measures.perceptual import PerceptualDistance
from dreambooth.sampling.records import Picture

RED, GREEN, BLUE = torch.eye(3)


@dataclass
class ColourEncoder:
    """The feature of a picture is its mean colour; that of a caption, the colour it names."""

    name: str = "colours"
    digest: str = "0"
    seen: int = 0
    captions: list[str] = field(default_factory=list)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        self.seen += len(pixels_BCHW)
        return pixels_BCHW.mean(dim=(2, 3))

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        self.captions += captions
        return torch.stack([GREEN if "green" in caption else RED for caption in captions])


def colour(*parts: Tensor) -> Tensor:
    return (sum(parts, torch.zeros(3)) / len(parts)).view(3, 1, 1).expand(3, 8, 8).clone()


QUESTIONS = PromptSet(("sks red", "sks green"), ("red", "green"), "thing", num_images=2, num_class_images=3)


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    encoders = Encoders(ColourEncoder("dino"), ColourEncoder("clip", "1"), None, FeatureCache(tmp_path))
    return Evaluator(QUESTIONS, [colour(RED), colour(RED, GREEN)], encoders, seed=0)


def samples(subject: Sequence[Tensor], class_images: Sequence[Tensor]) -> Samples:
    return Samples(torch.stack(list(subject)).view(2, 2, 3, 8, 8), torch.stack(list(class_images)))


@pytest.fixture
def after() -> Samples:
    return samples([colour(RED), colour(RED), colour(GREEN), colour(BLUE)], [colour(RED), colour(BLUE), colour(BLUE)])


HALF = 0.5**0.5  # cosine of red with red and green


def test_each_score_is_the_mean_that_its_name_says(evaluator: Evaluator, after: Samples) -> None:
    before = samples([colour(BLUE)] * 4, [colour(RED), colour(BLUE), colour(GREEN)])
    found = evaluator.score(after, before=before).scores
    assert {name: round(one.value, 6) for name, one in found.items()} == {
        "DINO": pytest.approx((2 * (1 + HALF) / 2 + (0 + HALF) / 2 + 0) / 4, abs=1e-6),
        "CLIP-I": pytest.approx((2 * (1 + HALF) / 2 + (0 + HALF) / 2 + 0) / 4, abs=1e-6),
        "CLIP-T": pytest.approx((1 + 1 + 1 + 0) / 4, abs=1e-6),
        "PRES": pytest.approx(((1 + HALF) / 2 + 0 + 0) / 3, abs=1e-6),
        "drift": pytest.approx((0 + 0 + 1) / 3, abs=1e-6),
        "DIV": pytest.approx((0 + 1) / 2, abs=1e-6),
    }
    assert {one.encoder for name, one in found.items() if name.startswith("CLIP")} == {"clip"}
    assert found["DIV"].encoder == "1 - cosine of dino"
    assert all(one.low is not None and one.low <= one.value <= (one.high or 0) + 1e-9 for one in found.values())
    assert {one.name for one in MEASURES} == {*found}


def test_clip_is_told_the_prompts_without_the_token(evaluator: Evaluator, after: Samples) -> None:
    evaluator.score(after, before=None)
    assert isinstance(evaluator.encoders.clip, ColourEncoder)
    assert evaluator.encoders.clip.captions == ["red", "green"]


def test_the_base_model_measured_against_itself_has_not_moved(evaluator: Evaluator, after: Samples) -> None:
    assert evaluator.score(after, before=after).scores["drift"].value == pytest.approx(0, abs=1e-12)
    assert "drift" not in evaluator.score(after, before=None).scores


def test_the_photos_bound_what_is_compared_with_them(evaluator: Evaluator) -> None:
    found = evaluator.photo_scores()
    assert {name: one.value for name, one in found.items()} == {"DINO": pytest.approx(HALF), "CLIP-I": pytest.approx(HALF)}
    assert replace(evaluator, photos=evaluator.photos[:1]).photo_scores() == {}


def test_without_a_class_or_a_second_picture_nothing_is_said_of_them(evaluator: Evaluator, after: Samples) -> None:
    prompt_set = replace(QUESTIONS, class_prompt=None, num_images=1)
    alone = Samples(after.subject_PSCHW[:, :1], after.class_NCHW[:0])
    found = replace(evaluator, prompt_set=prompt_set, photos=evaluator.photos[:1]).score(alone, before=alone)
    assert [*found.scores] == ["DINO", "CLIP-I", "CLIP-T"]
    assert found.copying is None


def test_copies_are_found_by_dino_where_there_is_no_other_distance(evaluator: Evaluator, after: Samples) -> None:
    found = evaluator.score(after, before=None).copying
    assert found is not None
    assert found.spread == pytest.approx(1 - HALF)
    assert found.share == 0.5, "two of four pictures are the first photo; green and blue are far from both"
    assert not found.is_alarming


def test_a_perceptual_distance_takes_dinos_place(evaluator: Evaluator, after: Samples) -> None:
    """One level with the picture's own channels: the distance of two colours is 2 where they differ."""
    distance = PerceptualDistance("by eye", lambda pixels: [pixels], [torch.ones(3)], torch.device("cpu"))
    found = replace(evaluator, encoders=replace(evaluator.encoders, distance=distance)).score(after, before=None)
    assert found.scores["DIV"].value == pytest.approx((0 + 2) / 2)
    assert found.scores["DIV"].encoder == "by eye"
    assert found.copying is not None
    assert found.copying.spread == pytest.approx(2 - 2 * HALF)
    assert found.copying.share == 0.5


def test_an_encoder_sees_each_picture_once(evaluator: Evaluator, after: Samples) -> None:
    evaluator.score(after, before=after)
    dino = evaluator.encoders.dino
    assert isinstance(dino, ColourEncoder)
    seen = dino.seen
    assert seen == 4, "red, green, blue, and the photo of red and green"
    evaluator.score(after, before=after)
    assert dino.seen == seen


def test_picture_k_of_every_prompt_starts_from_noise_k(evaluator: Evaluator) -> None:
    asked: list[Picture] = []

    def make(pictures: Sequence[Picture]) -> list[Tensor]:
        asked.extend(pictures)
        return [colour(RED) * (number / 10) for number in range(len(pictures))]

    made = evaluator.samples(make)
    assert [(one.prompt, one.index) for one in asked] == [
        *[("sks red", 0), ("sks red", 1), ("sks green", 0), ("sks green", 1)],
        *[("thing", 0), ("thing", 1), ("thing", 2)],
    ]
    assert made.subject_PSCHW.shape == (2, 2, 3, 8, 8)
    assert made.subject_PSCHW[1, 0, 0, 0, 0] == pytest.approx(0.2)
    assert made.class_NCHW[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_fewer_pictures_are_the_first_ones(evaluator: Evaluator, after: Samples) -> None:
    prompt_set = replace(QUESTIONS, num_class_images=9)
    few = prompt_set.fewer(1)
    assert (few.num_images, few.num_class_images) == (1, 4)
    assert QUESTIONS.fewer(1).num_class_images == 3
    assert set(few.pictures()) <= set(prompt_set.pictures())
    first = after.fewer(QUESTIONS.fewer(1))
    assert torch.equal(first.subject_PSCHW, after.subject_PSCHW[:, :1])
    assert evaluator.fewer(1).score(first, before=None).scores["CLIP-T"].value == 1


def test_the_photos_own_prompt_score_is_that_of_every_photo_with_every_prompt(evaluator: Evaluator) -> None:
    assert evaluator.photos_on_prompts() == pytest.approx((1 + 0 + HALF + HALF) / 4)


def test_pictures_of_several_subjects_are_held_against_the_photos_of_all(evaluator: Evaluator, after: Samples) -> None:
    blue = replace(evaluator, photos=[colour(BLUE)])
    pictures = Samples(
        torch.stack([colour(BLUE), colour(BLUE), colour(RED), colour(BLUE)]).view(2, 2, 3, 8, 8), after.class_NCHW
    )
    assert confusion([evaluator, blue], [after, pictures]).tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert confusion([blue, evaluator], [pictures, after]).tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert confusion([evaluator, blue], [after, after]).tolist() == [[0.75, 0.25]] * 2


def test_most_pictures_must_be_copies_to_say_so() -> None:
    few, many = (Copying(torch.zeros(1), 1.0, share) for share in (0.5, 0.6))
    assert [Measured({}, one).is_copying for one in (None, few, many)] == [False, False, True]
