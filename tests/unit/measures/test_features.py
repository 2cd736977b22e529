"""Features are computed once, found by content, and never trusted when damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.measures.features import FeatureCache, PictureSource, features_of


@dataclass
class CountingEncoder:
    """The mean of each channel, and how many pictures were seen in each call."""

    name: str = "means"
    digest: str = "ab" * 32
    seen: list[int] = field(default_factory=list)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        self.seen.append(len(pixels_BCHW))
        return pixels_BCHW.mean(dim=(2, 3))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def pixels(number: int, side: int = 4) -> Tensor:
    return torch.rand((3, side, side), generator=torch.Generator().manual_seed(number))


def sources(*numbers: int, side: int = 4) -> list[PictureSource]:
    return [PictureSource.of_pixels(pixels(number, side)) for number in numbers]


def never() -> Tensor:
    raise AssertionError("decoded although its features are there")


def test_features_come_in_the_order_of_the_pictures(cache: FeatureCache) -> None:
    found = features_of(CountingEncoder(), sources(3, 1, 2), cache)
    torch.testing.assert_close(found, torch.stack([pixels(number).mean(dim=(1, 2)) for number in (3, 1, 2)]))


def test_what_is_there_is_neither_decoded_nor_encoded_again(cache: FeatureCache) -> None:
    first = CountingEncoder()
    before = features_of(first, sources(0, 1), cache)
    again = CountingEncoder()
    known = [PictureSource(source.digest, never) for source in sources(1, 0)]
    found = features_of(again, [*known, *sources(5)], cache)
    assert first.seen == [2] and again.seen == [1]
    assert torch.equal(found[:2], before.flip(0))


def test_a_picture_that_comes_twice_is_encoded_once(cache: FeatureCache) -> None:
    encoder = CountingEncoder()
    found = features_of(encoder, sources(0, 1, 0), cache)
    assert encoder.seen == [2]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_pictures_of_several_sizes_are_encoded_size_by_size(cache: FeatureCache) -> None:
    encoder = CountingEncoder()
    found = features_of(encoder, [*sources(0, 1), *sources(2, side=6), *sources(3)], cache)
    assert encoder.seen == [2, 1, 1] and found.shape == (4, 3)


def test_batches_are_bounded_and_kept_one_by_one(cache: FeatureCache) -> None:
    encoder = CountingEncoder()
    broken = PictureSource("cd" * 32, never)
    with pytest.raises(AssertionError):
        features_of(encoder, [*sources(*range(33)), broken], cache)
    assert encoder.seen == [32]
    assert len(list(cache.folder.iterdir())) == 32


def test_the_key_is_content_and_encoder_and_nothing_else() -> None:
    encoder = CountingEncoder()
    keys = {
        FeatureCache.key("ab" * 32, encoder),
        FeatureCache.key("cd" * 32, encoder),
        FeatureCache.key("ab" * 32, CountingEncoder(name="others")),
        FeatureCache.key("ab" * 32, CountingEncoder(digest="cd" * 32)),
    }
    assert len(keys) == 4
    assert FeatureCache.key("ab" * 32, CountingEncoder(seen=[1])) == FeatureCache.key("ab" * 32, encoder)


def test_pixels_are_told_apart_by_value_and_by_shape() -> None:
    one = pixels(0)
    changed = one.clone()
    changed[2, 3, 3] += 1e-6
    digests = [PictureSource.of_pixels(each).digest for each in (one, changed, one.reshape(3, 2, 8))]
    assert len(set(digests)) == 3
    assert PictureSource.of_pixels(one.clone().double()).digest == digests[0]


def _damages() -> dict[str, Callable[[Path], None]]:
    return {
        "empty": lambda path: path.write_bytes(b"") and None,
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]) and None,
        "names": lambda path: save_file({"mean": torch.zeros(3)}, path),
        "type": lambda path: save_file({"features": torch.zeros(3).half()}, path),
        "shape": lambda path: save_file({"features": torch.zeros(1, 3)}, path),
        "width": lambda path: save_file({"features": torch.zeros(5)}, path),
        "another's": lambda path: save_file({"features": torch.zeros(3)}, path, {"ab" * 32: "3"}),
        "another width": lambda path: save_file({"features": torch.zeros(5)}, path, {path.stem: "3"}),
        "numbers": lambda path: save_file({"features": torch.tensor([0.0, torch.nan, 0.0])}, path),
    }


@pytest.mark.parametrize("damage", list(_damages()))
def test_a_damaged_entry_is_computed_again(cache: FeatureCache, damage: str) -> None:
    right = features_of(CountingEncoder(), sources(0), cache)
    (path,) = cache.folder.iterdir()
    _damages()[damage](path)
    encoder, told = CountingEncoder(), list[str]()
    assert torch.equal(features_of(encoder, sources(0), cache, say=told.append), right)
    assert encoder.seen == [1]
    assert told == [f"1 damaged file of features in {cache.folder}: computed again"]
    assert torch.equal(features_of(encoder, sources(0), cache, say=told.append), right)
    assert encoder.seen == [1] and len(told) == 1, "it was mended"


def test_features_that_are_no_numbers_are_refused_and_not_kept(cache: FeatureCache) -> None:
    source = PictureSource("ab" * 32, lambda: torch.full((3, 4, 4), torch.nan))
    with pytest.raises(ModelFileError, match="means: returned features that are not finite"):
        features_of(CountingEncoder(), [source], cache)
    assert not cache.folder.exists()
