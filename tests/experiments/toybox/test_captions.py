from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.families.tokens import describe_token
from dreambooth.toybox.subjects import individuals
from dreambooth.toybox.world import CLASSES, PLACES
from experiments.toybox.captions import LONGEST, CaptionIds, caption_ids
from experiments.toybox.pictures import PictureSet

START, END = 49406, 49407


def tokenize(texts: list[str]) -> Tensor:
    rows = [[START, *describe_token(text).ids, END] for text in texts]
    return torch.tensor([row + [END] * (77 - len(row)) for row in rows])


@pytest.fixture
def world(tmp_path: Path) -> PictureSet:
    return PictureSet(tmp_path / "pictures", num=40, side=8, seed=3)


def test_every_picture_has_four_captions_as_ids(world: PictureSet, tmp_path: Path) -> None:
    captions = caption_ids(world, tokenize, tmp_path / "captions.npz")
    assert captions.of_picture_NK.shape == (40, 4)
    assert captions.unique_UL.shape == (int(captions.of_picture_NK.max()) + 1, LONGEST)
    for index in range(40):
        expected = tokenize([world.caption(index, draw=draw) for draw in range(4)])[:, :LONGEST]
        assert torch.equal(captions.unique_UL[captions.of_picture_NK[index]], expected)


def test_no_caption_is_kept_twice(world: PictureSet, tmp_path: Path) -> None:
    captions = caption_ids(world, tokenize, tmp_path / "captions.npz")
    assert len(captions.unique_UL.unique(dim=0)) == len(captions.unique_UL) < 160
    assert captions.of_picture_NK.unique().tolist() == list(range(len(captions.unique_UL)))


def test_captions_that_were_made_before_are_taken(world: PictureSet, tmp_path: Path) -> None:
    path = tmp_path / "captions.npz"
    first = caption_ids(world, tokenize, path)

    def never(texts: list[str]) -> Tensor:
        raise AssertionError(texts)

    second = caption_ids(world, never, path)
    assert torch.equal(first.unique_UL, second.unique_UL)
    assert torch.equal(first.of_picture_NK, second.of_picture_NK)
    assert [entry.name for entry in tmp_path.iterdir()] == ["captions.npz"]


def test_the_longest_caption_fits_with_its_end() -> None:
    place = max(PLACES.values(), key=lambda words: len(describe_token(words).ids))
    longest = f"a picture of a purple and orange striped {CLASSES[0]} {place}"
    named = f"a picture of a {next(iter(individuals()))} {CLASSES[0]} {place}"
    for text in (longest, named):
        assert tokenize([text])[0, LONGEST - 1] == END
        assert len(describe_token(text).ids) + 2 <= LONGEST


def test_states_are_those_of_captions_padded_with_ends() -> None:
    ids = torch.randint(5, 90, (300, LONGEST), generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def encode(ids_BL: Tensor) -> Tensor:
        seen.append(ids_BL)
        return torch.stack([ids_BL.float(), -ids_BL.float()], dim=2)

    states = CaptionIds(ids, torch.zeros(1, 1, dtype=torch.int64)).states(encode, length=30, end=100)
    assert [tuple(batch.shape) for batch in seen] == [(256, 30), (44, 30)]
    assert states.shape == (300, 30, 2) and states.dtype == torch.bfloat16
    assert torch.equal(states[:, :LONGEST, 0], ids.bfloat16())
    assert torch.equal(states[:, LONGEST:, 1], torch.full((300, 6), -100, dtype=torch.bfloat16))


def test_states_ask_for_no_gradient() -> None:
    table = torch.nn.Embedding(50, 3)
    captions = CaptionIds(torch.zeros((2, LONGEST), dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))
    assert not captions.states(table, length=LONGEST, end=0).requires_grad
