"""The eye that ships: how big it is, and that it tells the subjects, which it was never shown, from others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from dreambooth.families.untrained import untrained_vit
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.files import CLIP_FILE, EYE_FILE, JUDGE_FILE
from dreambooth.toybox.judge import SIDE
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import HELD_OUT_SEED, PHOTO_SEED, SUBJECTS, random_subject, subject_scenes
from dreambooth.toybox.world import PLACES, Look, Scene
from experiments.toybox.pictures import to_pixels
from experiments.toybox.seeing import auc, features

NUM_PICTURES = 2
NUM_OTHERS = 2


@pytest.fixture(scope="module")
def vit() -> Any:
    made: Any = untrained_vit(EYE, seed=0)
    made.load_state_dict({name: tensor.float() for name, tensor in load_file(EYE_FILE).items()})
    return made.eval()


@torch.no_grad()
def seen(vit: Any, scenes: list[Scene]) -> Tensor:
    """Features of length 1 of the pictures of these scenes."""
    return normalize(features(vit, to_pixels(torch.from_numpy(np.stack([render(scene, SIDE) for scene in scenes])))), dim=1)


def photos(look: Look, seed: int) -> list[Scene]:
    return list(subject_scenes(look, num=NUM_PICTURES, seed=seed))


@pytest.fixture(scope="module")
def similarities(vit: Any) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Of a subject's photos to its held-out photos, to those of others of its class, and of other classes."""
    found = {name: seen(vit, photos(look, PHOTO_SEED)) for name, look in SUBJECTS.items()}
    held_out = {name: seen(vit, photos(look, HELD_OUT_SEED)) for name, look in SUBJECTS.items()}
    result = {}
    for name, look in SUBJECTS.items():
        drawn = [random_subject(10_000 + number, look.class_word) for number in range(NUM_OTHERS)]
        others = seen(vit, [scene for other in drawn for scene in photos(other, HELD_OUT_SEED)])
        strangers = torch.cat([held_out[other] for other in SUBJECTS if SUBJECTS[other].class_word != look.class_word])
        result[name] = tuple((found[name] @ some.T).flatten() for some in (held_out[name], others, strangers))
    return result


def test_what_measures_pictures_is_small() -> None:
    assert EYE_FILE.stat().st_size < 4e6
    assert sum(path.stat().st_size for path in (EYE_FILE, CLIP_FILE, JUDGE_FILE)) < 10e6
    assert {tensor.dtype for tensor in load_file(EYE_FILE).values()} == {torch.float16}


def test_its_file_says_where_it_comes_from_and_what_it_reached() -> None:
    with safe_open(EYE_FILE, "pt") as file:
        about = file.metadata()
    assert about["dreambooth.seed"] == "20221"
    assert float(about["dreambooth.AUC against its class"]) > 0.98


def test_a_subject_is_nearest_to_itself_then_to_its_class_then_to_other_classes(
    similarities: dict[str, tuple[Tensor, Tensor, Tensor]],
) -> None:
    for name, (same, of_class, of_others) in similarities.items():
        assert same.mean() > of_class.mean() + 0.3, name
        assert of_class.mean() > of_others.mean() + 0.1, name


def test_similarity_tells_subjects_apart(similarities: dict[str, tuple[Tensor, Tensor, Tensor]]) -> None:
    same, of_class, of_others = (torch.cat(some) for some in zip(*similarities.values(), strict=True))
    assert auc(same, of_class) > 0.98
    assert auc(same, of_others) > 0.995


def test_the_place_hardly_matters(vit: Any) -> None:
    """The same mug, seen from the same side in every place, against the same mug in another colour in the same places."""
    look = SUBJECTS["upright-mug"]
    view = photos(look, HELD_OUT_SEED)[0].view
    mug, other = (
        seen(vit, [Scene(shown, place, view) for place in PLACES]) for shown in (look, replace(look, secondary="blue"))
    )
    across_places = (mug @ mug.T)[~torch.eye(len(PLACES), dtype=torch.bool)]
    assert across_places.min() > (mug @ other.T).max()
