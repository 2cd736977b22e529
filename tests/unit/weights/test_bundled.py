"""A model of the small rendered world is known by what it says about itself, not by the size of its images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.weights.bundled import BUNDLED_DIGEST, TRAINED_ON, draws_toybox, inherited_metadata
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from tests.random_weights import random_model

PICTURES = "rendered pictures of dreambooth.toybox"


@pytest.fixture(scope="module")
def bundled() -> ModelWeights:
    return read_model("toybox")


@pytest.fixture
def stranger(miniature: StableDiffusion1) -> ModelWeights:
    """A model of 64 pixels that nobody trained."""
    return random_model(miniature, seed=1).made_for(64)


def test_the_bundled_model_and_its_copies_without_metadata(bundled: ModelWeights) -> None:
    assert bundled.digest() == BUNDLED_DIGEST
    assert draws_toybox(bundled)
    assert draws_toybox(replace(bundled, metadata={}))


def test_a_model_of_the_same_size_is_none(stranger: ModelWeights) -> None:
    assert stranger.family.resolution == 64
    assert not draws_toybox(stranger)
    assert inherited_metadata(stranger) == {}


@pytest.mark.parametrize(
    "metadata",
    [{TRAINED_ON: PICTURES}, {"dreambooth.made_of": json.dumps({"base model": BUNDLED_DIGEST, "photo 1 (a.png)": "b"})}],
)
def test_a_model_that_was_trained_from_it_says_so(stranger: ModelWeights, metadata: dict[str, str]) -> None:
    trained = replace(stranger, metadata=metadata)
    assert draws_toybox(trained)
    assert inherited_metadata(trained) == {TRAINED_ON: PICTURES}


@pytest.mark.parametrize("metadata", [{TRAINED_ON: "photos"}, {"dreambooth.made_of": "{"}, {"dreambooth.made_of": "[1]"}])
def test_other_words_are_none(stranger: ModelWeights, metadata: dict[str, str]) -> None:
    assert not draws_toybox(replace(stranger, metadata=metadata))


def test_at_another_size_its_encoders_do_not_apply_and_what_it_knows_is_handed_on(bundled: ModelWeights) -> None:
    larger = bundled.made_for(128)
    assert not draws_toybox(larger)
    assert inherited_metadata(larger) == {TRAINED_ON: PICTURES}
