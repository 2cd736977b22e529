from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dreambooth.data.latent_cache import LatentCache
from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.diffusion.latents import LatentMoments

PHOTO = Photo(Path("a.jpg"), "ab" * 32, 640, 480, None)
VIEW = View(Size.square(64), top=0, left=80, height=480, width=480, flip=False)


@pytest.fixture
def cache(tmp_path: Path) -> LatentCache:
    return LatentCache(tmp_path / "latents")


def moments() -> LatentMoments:
    numbers = torch.arange(2 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 4, 8, 8)
    return LatentMoments(numbers[0] / 7, numbers[1])


def key_of(photo: Photo = PHOTO, view: View = VIEW, background: str = "white", model_digest: str = "cd" * 32) -> str:
    return LatentCache.key(photo, view, background=background, model_digest=model_digest)


def test_what_was_put_is_found_bit_for_bit(cache: LatentCache) -> None:
    assert cache.get(key_of()) is None
    cache.put(key_of(), moments())
    found = cache.get(key_of())
    assert found is not None
    assert torch.equal(found.mean, moments().mean) and torch.equal(found.deviation, moments().deviation)
    assert [path.name for path in cache.folder.iterdir()] == [f"{key_of()}.safetensors"]


@pytest.mark.parametrize("mean", [moments().mean, moments().mean.half().permute(0, 2, 1)])
def test_any_tensor_is_kept_as_float32(cache: LatentCache, mean: torch.Tensor) -> None:
    cache.put(key_of(), LatentMoments(mean, mean))
    found = cache.get(key_of())
    assert found is not None and found.mean.dtype == found.deviation.dtype == torch.float32
    assert torch.equal(found.mean, mean.float()) and torch.equal(found.deviation, mean.float())


def test_the_key_is_everything_that_decides_the_numbers_and_nothing_else() -> None:
    keys = {
        key_of(),
        key_of(photo=replace(PHOTO, digest="ef" * 32)),
        *(key_of(view=replace(VIEW, **{name: 8})) for name in ("top", "left", "height", "width")),
        *(key_of(view=replace(VIEW, size=size)) for size in (Size(64, 72), Size(72, 64))),
        key_of(view=replace(VIEW, flip=True)),
        key_of(background="black"),
        key_of(model_digest="01" * 32),
        LatentCache.key(PHOTO, VIEW, background="white", model_digest="cd" * 32, dtype=torch.bfloat16),
    }
    assert len(keys) == 12
    assert key_of(photo=replace(PHOTO, path=Path("b.jpg"), caption="a dog")) == key_of()


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "text", "half", "names", "type", "shape", "bit", "nan", "no digest", "folder"]
)
def test_a_damaged_entry_counts_as_missing_and_is_replaced(cache: LatentCache, damage: str) -> None:
    cache.put(key_of(), moments())
    path = cache.folder / f"{key_of()}.safetensors"
    mean = moments().mean
    if damage in ("empty", "cut", "text"):
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-5], "text": b"not a tensor file"}[damage])
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:6])
    elif damage == "bit":
        data = bytearray(path.read_bytes())
        data[-3] ^= 4
        path.write_bytes(data)
    elif damage == "nan":
        cache.put(key_of(), LatentMoments(mean * torch.nan, mean))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        contents = {
            "names": {"mean": mean},
            "no digest": {"mean": mean, "deviation": mean.clone()},
            "type": {"mean": mean.half(), "deviation": mean.half()},
            "shape": {"mean": mean, "deviation": mean[:1].clone()},
        }
        save_file(contents[damage], path)
    assert cache.get(key_of()) is None and cache.has(key_of())
    if damage != "folder":
        cache.put(key_of(), moments())
        assert cache.get(key_of()) is not None
