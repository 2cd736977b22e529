from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from dreambooth.data.prior_sets import MadeLatent, PriorRequest, PriorSet, prompt_of_set
from dreambooth.errors import PhotoError

REQUEST = PriorRequest(
    prompt="photo of a dog",
    model_digest="ab" * 32,
    sampler="ddim",
    sampling_steps=50,
    guidance_scale=10.0,
    height=64,
    width=48,
    seed=23,
)


def save(prior_set: PriorSet, *indices: int) -> None:
    for index in indices:
        Image.new("RGB", (48, 64), (index, 0, 0)).save(prior_set.path(index))


X_0_CHW = torch.arange(4 * 8 * 6, dtype=torch.float32).reshape(4, 8, 6) / 7


def put(prior_set: PriorSet, index: int, x_0_CHW: torch.Tensor = X_0_CHW) -> Path:
    """Put a latent of a picture that stands; the file."""
    prior_set.put_latent(index, x_0_CHW, picture=prior_set.path(index))
    return prior_set.path(index).with_suffix(".safetensors")


def latent(prior_set: PriorSet, index: int) -> MadeLatent | None:
    return prior_set.latent(prior_set.images(index + 1)[index].photo)


@pytest.fixture
def prior_set(tmp_path: Path) -> PriorSet:
    return PriorSet.open(tmp_path, "dog", REQUEST)


def test_a_new_set_says_what_makes_it(prior_set: PriorSet, tmp_path: Path) -> None:
    assert prior_set.folder == tmp_path / f"dog-{REQUEST.key}"
    manifest = json.loads((prior_set.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == {
        "format": "dreambooth class images, version 1",
        "key": REQUEST.key,
        "request": {
            "prompt": "photo of a dog",
            "model_digest": "ab" * 32,
            "sampler": "ddim",
            "sampling_steps": 50,
            "guidance_scale": 10.0,
            "height": 64,
            "width": 48,
            "seed": 23,
        },
    }
    assert prompt_of_set(prior_set.folder) == "photo of a dog"
    assert [path.name for path in prior_set.folder.iterdir()] == ["manifest.json"]


def test_the_key_is_pinned() -> None:
    """Another key would orphan every set made before."""
    assert REQUEST.key == "a0533aad961857b8"
    assert len(REQUEST.key) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "photo of a cat"},
        {"model_digest": "cd" * 32},
        {"sampler": "plms"},
        {"sampling_steps": 51},
        {"guidance_scale": 10.5},
        {"height": 48},
        {"width": 64},
        {"seed": 24},
    ],
)
def test_another_request_never_gets_this_set(prior_set: PriorSet, tmp_path: Path, change: dict[str, object]) -> None:
    save(prior_set, 0, 1)
    other = PriorSet.open(tmp_path, "dog", replace(REQUEST, **change))  # type: ignore[arg-type]
    assert other.folder != prior_set.folder
    assert other.missing(2) == [0, 1]


def test_a_whole_number_for_a_real_one_is_the_same_request() -> None:
    assert replace(REQUEST, guidance_scale=10).key == REQUEST.key


@pytest.mark.parametrize(
    ("class_word", "start"),
    [
        ("Teddy Bear", "teddy-bear-"),
        ("../x\\y:z", "x-y-z-"),
        ("\u96ea", "\u96ea-"),
        ("!?", "class-"),
        ("a" * 99, "a" * 40 + "-"),
    ],
)
def test_class_words_become_safe_folder_names(tmp_path: Path, class_word: str, start: str) -> None:
    folder = PriorSet.open(tmp_path, class_word, REQUEST).folder
    assert folder.parent == tmp_path
    assert folder.name == f"{start}{REQUEST.key}"


def test_only_complete_pictures_of_the_right_size_and_name_count(prior_set: PriorSet) -> None:
    assert prior_set.missing(6) == [0, 1, 2, 3, 4, 5]
    assert prior_set.path(3).name == "00003.png" and prior_set.path(123456).name == "123456.png"
    save(prior_set, 0, 1, 4)
    whole = prior_set.path(1).read_bytes()
    prior_set.path(1).write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (64, 48)).save(prior_set.path(2))
    prior_set.path(3).write_bytes(b"")
    for junk in (".DS_Store", "Thumbs.db", "00005.jpg", "5.png", "00005.png.tmp", "copy of 00005.png"):
        (prior_set.folder / junk).write_bytes(prior_set.path(0).read_bytes())
    assert prior_set.missing(6) == [1, 2, 3, 5]


def test_a_set_is_filled_where_it_was_left(prior_set: PriorSet, tmp_path: Path) -> None:
    save(prior_set, 0, 2)
    again = PriorSet.open(tmp_path, "dog", REQUEST)
    assert again == prior_set and again.missing(3) == [1]
    save(again, 1)
    assert again.missing(3) == [] and again.missing(5) == [3, 4]
    images = again.images(2)
    assert [image.photo.path.name for image in images] == ["00000.png", "00001.png"]
    assert {image.caption for image in images} == {"photo of a dog"}
    assert len({image.photo.digest for image in images}) == 2


def test_images_of_an_unfinished_set_are_our_own_mistake(prior_set: PriorSet) -> None:
    save(prior_set, 0)
    with pytest.raises(AssertionError):
        prior_set.images(2)


def test_a_manifest_of_another_set_is_refused(prior_set: PriorSet, tmp_path: Path) -> None:
    path = prior_set.folder / "manifest.json"
    path.write_text(json.dumps(replace(REQUEST, seed=1).manifest()))
    with pytest.raises(PhotoError) as caught:
        PriorSet.open(tmp_path, "dog", REQUEST)
    assert caught.value.problems == (f"{path}: does not match the name of its folder",)
    assert caught.value.hint == f"Restore {path}, or move the whole folder away."


def test_an_unreadable_manifest_is_refused(prior_set: PriorSet, tmp_path: Path) -> None:
    path = prior_set.folder / "manifest.json"
    for data in (b"{", b"", b"\xff\xfe"):
        path.write_bytes(data)
        with pytest.raises(PhotoError, match=r"manifest\.json: cannot be read: "):
            PriorSet.open(tmp_path, "dog", REQUEST)
        with pytest.raises(PhotoError, match=r"manifest\.json: cannot be read: "):
            prompt_of_set(prior_set.folder)


def test_pictures_without_a_manifest_are_not_trusted(prior_set: PriorSet, tmp_path: Path) -> None:
    save(prior_set, 0)
    (prior_set.folder / "manifest.json").unlink()
    with pytest.raises(PhotoError) as caught:
        PriorSet.open(tmp_path, "dog", REQUEST)
    assert caught.value.problems == (f"{prior_set.folder}: contains images but no manifest.json that describes them",)


def test_the_prompt_of_what_is_no_set(tmp_path: Path) -> None:
    assert prompt_of_set(tmp_path) is None
    for other in ("[]", "{}", '{"name": "my web app"}'):
        (tmp_path / "manifest.json").write_text(other)
        assert prompt_of_set(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"format": "dreambooth class images, version 1"}')
    with pytest.raises(PhotoError, match=r"manifest\.json: has no prompt"):
        prompt_of_set(tmp_path)


def test_a_latent_stands_beside_its_picture_and_is_found_bit_for_bit(prior_set: PriorSet) -> None:
    save(prior_set, 0, 1)
    path = put(prior_set, 1)
    found = latent(prior_set, 1)
    assert found is not None and torch.equal(found.x_0_CHW, X_0_CHW)
    assert latent(prior_set, 0) is None
    assert sorted(file.name for file in prior_set.folder.iterdir()) == [
        *("00000.png", "00001.png", "00001.safetensors", "manifest.json")
    ]
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["x_0"]
        assert file.metadata()["picture"] == prior_set.images(2)[1].photo.digest


def test_any_latent_is_kept_as_float32(prior_set: PriorSet) -> None:
    save(prior_set, 0)
    x_0_CHW = X_0_CHW.half().transpose(1, 2)
    put(prior_set, 0, x_0_CHW)
    found = latent(prior_set, 0)
    assert found is not None and found.x_0_CHW.dtype == torch.float32 and torch.equal(found.x_0_CHW, x_0_CHW.float())


def test_the_digest_of_a_latent_is_of_its_numbers(prior_set: PriorSet) -> None:
    save(prior_set, 0, 1, 2)
    put(prior_set, 0)
    put(prior_set, 1)
    put(prior_set, 2, X_0_CHW + 1)
    one, same, other = (latent(prior_set, index) for index in range(3))
    assert one is not None and same is not None and other is not None
    assert len(one.digest) == 64 and one.digest == same.digest != other.digest


def test_the_latent_of_another_picture_is_not_used(prior_set: PriorSet) -> None:
    """Such as when a person has painted over the picture, or an older version has made it again."""
    save(prior_set, 0)
    put(prior_set, 0)
    before = prior_set.path(0).read_bytes()
    Image.new("RGB", (48, 64), "white").save(prior_set.path(0))
    assert latent(prior_set, 0) is None
    prior_set.path(0).write_bytes(before)
    assert latent(prior_set, 0) is not None


def test_a_damaged_latent_is_not_used(prior_set: PriorSet) -> None:
    save(prior_set, 0)
    path = put(prior_set, 0)
    whole, metadata = path.read_bytes(), {"picture": prior_set.images(1)[0].photo.digest}
    for data in (b"", whole[:40], whole[:-1]):
        path.write_bytes(data)
        assert latent(prior_set, 0) is None
    broken = X_0_CHW.clone()
    broken[0, 0, 0] = float("nan")
    for tensors in ({"x": X_0_CHW}, {"x_0": X_0_CHW.half()}, {"x_0": X_0_CHW[0]}, {"x_0": broken}):
        save_file(tensors, path, metadata)
        assert latent(prior_set, 0) is None
    save_file({"x_0": X_0_CHW}, path)
    assert latent(prior_set, 0) is None
    save_file({"x_0": X_0_CHW}, path, metadata)
    assert latent(prior_set, 0) is not None


def test_a_picture_without_a_latent_is_not_missing_and_a_latent_without_its_picture_is(prior_set: PriorSet) -> None:
    save(prior_set, 0, 1)
    put(prior_set, 1)
    prior_set.path(1).unlink()
    assert prior_set.missing(2) == [1]


def test_a_deleted_latent_is_missing_only_where_there_was_one(prior_set: PriorSet) -> None:
    save(prior_set, 0, 1)
    path = put(prior_set, 1)
    digests = [image.photo.digest for image in prior_set.images(2)]
    assert prior_set.missing(2, with_latents=digests[1:]) == [] == prior_set.without_latent(2, with_latents=digests[1:])
    path.unlink()
    assert prior_set.missing(2) == []
    assert prior_set.missing(2, with_latents=digests[1:]) == [1] == prior_set.without_latent(2, with_latents=digests[1:])


def test_a_latent_with_a_changed_bit_is_made_again_and_one_without_a_digest_is_used(prior_set: PriorSet) -> None:
    save(prior_set, 0, 1)
    path = put(prior_set, 1)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    assert latent(prior_set, 1) is None and prior_set.missing(2) == [1]
    digest = prior_set.images(2)[1].photo.digest
    save_file({"x_0": X_0_CHW}, path, {"picture": digest})  # as earlier versions wrote it
    assert latent(prior_set, 1) is not None and prior_set.missing(2) == []
