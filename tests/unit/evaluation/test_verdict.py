"""The sentences of a verdict agree with the table of scores."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from dreambooth.evaluation.evaluator import Measured, Samples
from dreambooth.evaluation.results import ModelScores
from dreambooth.evaluation.verdict import verdict
from dreambooth.measures.intervals import Score


def score(name: str, value: float, spread: float | None = 0.02) -> Score:
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    return Score(name, value, low, high, "encoder")


def measured(values: Mapping[str, float], spread: float | None = 0.02) -> Measured:
    return Measured({name: score(name, value, spread) for name, value in values.items()}, None)


def sentences(model: Mapping[str, float], base: Mapping[str, float] | None, photos: float = 0.9) -> list[str]:
    samples = Samples(torch.empty(0), torch.empty(0))
    compared = None if base is None else measured(base)
    return verdict(ModelScores(measured(model), compared, {"DINO": score("DINO", photos)}, {}, samples, None, 10))


@pytest.mark.parametrize(
    ("dino", "said"),
    [
        (0.42, "The subject was not clearly learned: its images are no closer than the base model's to the photos"),
        (0.50, "The subject was learned in part: 20% of the way from the base model's images to the photos"),
        (0.80, "The subject was learned: 80% of the way from the base model's images to the photos"),
        (0.95, "The subject was learned: its images are as close to the photos as the photos are to each other"),
    ],
)
def test_how_far_a_subject_came_is_said_with_its_numbers(dino: float, said: str) -> None:
    (sentence,) = sentences({"DINO": dino}, {"DINO": 0.4})
    assert sentence.startswith(said)
    assert f"(DINO {dino:.3f}, base model 0.400" in sentence


@pytest.mark.parametrize(
    ("clip", "said"),
    [(0.20, "less closely than"), (0.31, "about as closely as"), (0.29, "about as closely as"), (0.40, "more closely than")],
)
def test_prompts_differ_only_where_the_intervals_lie_apart(clip: float, said: str) -> None:
    assert sentences({"CLIP-T": clip}, {"CLIP-T": 0.30}) == [
        f"The images follow their prompts {said} the base model's (CLIP-T {clip:.3f}, base model 0.300)."
    ]


def test_the_class_is_kept_or_moved() -> None:
    assert sentences({"PRES": 0.41, "drift": 0.26}, {"PRES": 0.40}) == [
        "The class did not clearly move toward the subject (PRES 0.410, base model 0.400; drift 0.260, 0 is unchanged)."
    ]
    (moved,) = sentences({"PRES": 0.70}, {"PRES": 0.40})
    assert moved.startswith("The class moved toward the subject") and moved.endswith("(PRES 0.700, base model 0.400).")


def test_without_a_base_model_there_is_nothing_to_compare_with() -> None:
    assert sentences({"DINO": 0.8, "CLIP-T": 0.3, "PRES": 0.4}, None) == []


def test_without_intervals_the_values_decide() -> None:
    samples = Samples(torch.empty(0), torch.empty(0))
    found = ModelScores(measured({"CLIP-T": 0.31}, None), measured({"CLIP-T": 0.30}, None), {}, {}, samples, None, 1)
    assert "more closely than" in verdict(found)[0]


@pytest.mark.parametrize(
    ("dino", "said"),
    [
        (0.79, "The earlier subject was kept: "),
        (0.90, "The earlier subject was kept: "),
        (0.5, "The earlier subject was forgotten"),
    ],
)
def test_an_earlier_subject_is_compared_with_the_model_that_learned_it(dino: float, said: str) -> None:
    samples = Samples(torch.empty(0), torch.empty(0))
    found = ModelScores(measured({"DINO": dino}), measured({"DINO": 0.8}), {}, {}, samples, None, 10)
    (sentence,) = verdict(found, is_earlier=True)
    assert sentence.startswith(said)
    assert f"(DINO {dino:.3f}, before this training 0.800)" in sentence
