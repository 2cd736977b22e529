"""A picture's file is found by everything that decides the picture, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreambooth.display import Display
from dreambooth.pages.images import save_picture
from dreambooth.pictures.maker import FinishedPicture
from dreambooth.pictures.sample_cache import SampleCache
from dreambooth.sampling.records import Picture
from dreambooth.sampling.settings import SampleSettings


def model(digest: str = "0", resolution: int = 64) -> Any:
    return SimpleNamespace(digest=lambda: digest, family=SimpleNamespace(resolution=resolution))


SAMPLE = SampleSettings(sampling_steps=20, guidance_scale=3.0, seed=1)
ALBUM = SampleCache(Path("pictures"), model(), "rex", SAMPLE, torch.device("cpu"))
PICTURE = Picture("a dog", 0)


def test_whatever_decides_a_picture_gives_it_another_file() -> None:
    changes = [{"sampler": "dpm++"}, {"sampling_steps": 21}, {"guidance_scale": 4.0}, {"seed": 2}]
    paths = [
        ALBUM.path(PICTURE),
        ALBUM.path(Picture("a dog!", 0)),  # the same words in the name
        ALBUM.path(Picture("a dog", 1)),
        *(replace(ALBUM, sample=SAMPLE.model_copy(update=change)).path(PICTURE) for change in changes),
        *(replace(ALBUM, model=other).path(PICTURE) for other in (model("1"), model(resolution=128))),
    ]
    assert len(set(paths)) == len(paths) == 9
    assert all(path.name.startswith("a-dog-0") for path in paths)


def test_what_only_says_how_quickly_changes_no_file() -> None:
    quick = replace(ALBUM, sample=SAMPLE.model_copy(update={"batch_size": 16, "device": "cuda"}), name="another name")
    assert quick.path(PICTURE) == ALBUM.path(PICTURE)


def test_only_what_has_no_file_is_missing(tmp_path: Path) -> None:
    sample_cache = replace(ALBUM, folder=tmp_path)
    other = Picture("a cat", 0)
    assert sample_cache.missing([PICTURE, other, PICTURE]) == [PICTURE, other], "once each"
    save_picture(sample_cache.path(PICTURE), torch.zeros(3, 64, 64), {})
    assert sample_cache.missing([PICTURE, other]) == [other]


def test_a_picture_of_another_size_or_of_none_is_made_anew(tmp_path: Path) -> None:
    sample_cache = replace(ALBUM, folder=tmp_path)
    save_picture(sample_cache.path(PICTURE), torch.zeros(3, 128, 128), {})
    assert sample_cache.missing([PICTURE]) == [PICTURE]
    sample_cache.path(PICTURE).write_bytes(b"no picture")
    assert sample_cache.missing([PICTURE]) == [PICTURE]


def test_a_batch_with_a_missing_picture_is_made_whole_since_another_size_rounds_differently(
    tmp_path: Path, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Picture] = []

    def made_pictures(
        _: object, __: object, pictures: list[Picture], *___: object, **____: object
    ) -> Iterator[FinishedPicture]:
        for picture in pictures:
            made.append(picture)
            yield FinishedPicture(picture, torch.ones(3, 64, 64), {})

    monkeypatch.setattr("dreambooth.pictures.sample_cache.made_pictures", made_pictures)
    sample_cache = replace(ALBUM, folder=tmp_path, sample=SAMPLE.model_copy(update={"batch_size": 2}))
    pictures = [Picture("a dog", index) for index in range(5)]
    for index in (0, 1, 3):
        save_picture(sample_cache.path(pictures[index]), torch.zeros(3, 64, 64), {})
    pixels = sample_cache.make(pictures, display)
    assert made == pictures[2:]
    assert [int(one.max()) for one in pixels] == [0, 0, 1, 0, 1], "what there is stays"
    sample_cache.fill(pictures, display)
    assert made == pictures[2:]
