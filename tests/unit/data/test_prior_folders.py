from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dreambooth.data.prior_folders import PriorImages, also_prior_images, prior_images_from_folder
from dreambooth.data.prior_sets import PriorRequest, PriorSet
from dreambooth.data.settings import PriorSettings, SubjectSettings

MakePhoto = Callable[..., Path]


def captions(images: PriorImages) -> dict[str, str]:
    return {image.photo.path.name: image.caption for image in images.images}


def errors(images: PriorImages) -> list[tuple[str, str]]:
    return [(problem.path.name, problem.message) for problem in images.problems if problem.severity == "error"]


def cat(**changes: str) -> SubjectSettings:
    return SubjectSettings.model_validate({"photos": Path("photos"), "class_word": "cat", **changes})


def as_cats(folder: Path) -> PriorImages:
    return prior_images_from_folder(folder, prior=PriorSettings(), subject=cat(), resolution=64)


def by_name(folder: Path, class_word: str = "cat") -> PriorImages:
    subject = cat(class_word=class_word, captions="filename")
    return prior_images_from_folder(folder, prior=PriorSettings(prior_images=folder), subject=subject, resolution=64)


@pytest.fixture
def made_set(tmp_path: Path) -> Path:
    """A set of two pictures that a base model made, with a brace in its prompt."""
    request = PriorRequest("photo of a {dog}", "ab" * 32, "ddim", 50, 10.0, 64, 64, 23)
    prior_set = PriorSet.open(tmp_path / "class-images", "dog", request)
    for index in range(2):
        Image.new("RGB", (64, 64), (200, index, 0)).save(prior_set.path(index))
    return prior_set.folder


def test_real_photos_get_the_class_prompt_or_their_own_caption(tmp_path: Path, make_photo: MakePhoto) -> None:
    for index, name in enumerate(["a.jpg", "more/b.jpg", "c.jpg"]):
        make_photo(name, seed=index)
    (tmp_path / "photos" / "c.txt").write_text("a black {class_word}")
    images = as_cats(tmp_path / "photos")
    assert captions(images) == {"a.jpg": "photo of a cat", "c.jpg": "a black cat", "b.jpg": "photo of a cat"}
    assert images.problems == ()


def test_names_say_the_caption_where_they_are_asked(tmp_path: Path, make_photo: MakePhoto) -> None:
    names = ["a.jpg", "man/b.jpg", "man/outdoor/c.jpg", "man/d@one C.jpg", "z.jpg"]
    for index, name in enumerate(names):
        make_photo(name, seed=index)
    (tmp_path / "photos" / "man" / "b.txt").write_text("an old {class_word}")
    images = by_name(tmp_path / "photos")
    expected = {"a.jpg": "cat", "b.jpg": "an old man", "d@one C.jpg": "one man", "c.jpg": "outdoor man", "z.jpg": "cat"}
    assert captions(images) == expected
    assert images.problems == ()


def test_a_class_image_whose_class_has_no_name_is_an_error(tmp_path: Path, make_photo: MakePhoto) -> None:
    for index, name in enumerate(["a.jpg", "b.jpg", "man/c.jpg"]):
        make_photo(name, seed=index)
    images = by_name(tmp_path / "photos", class_word="")
    assert captions(images)["c.jpg"] == "man"
    assert errors(images) == [("photos", "contains 2 images without a caption")]
    assert images.problems[0].advice.startswith("Use folders named after their class, give a --class-word")


def test_a_made_set_keeps_the_prompt_that_made_it(made_set: Path) -> None:
    (made_set / "00001.txt").write_text("a red one")
    expected = {"00000.png": "photo of a {dog}", "00001.png": "a red one"}
    assert captions(as_cats(made_set)) == expected
    assert captions(by_name(made_set)) == expected
    assert captions(by_name(made_set.parent)) == expected
    assert captions(also_prior_images(made_set, resolution=64)) == expected
    assert captions(also_prior_images(made_set.parent, resolution=64)) == expected


def test_the_latents_of_a_made_set_are_no_problem(made_set: Path) -> None:
    (made_set / "00001.safetensors").write_bytes(b"numbers")
    for images in (as_cats(made_set), also_prior_images(made_set.parent, resolution=64)):
        assert len(images.images) == 2
        assert images.problems == ()


def test_earlier_class_images_need_a_caption(tmp_path: Path, made_set: Path, make_photo: MakePhoto) -> None:
    for index in range(3):
        make_photo(f"{index}.jpg", seed=index, folder=made_set.parent / "real")
    (made_set.parent / "real" / "0.txt").write_text("photo of a {{house}}")
    images = also_prior_images(made_set.parent, resolution=64)
    assert captions(images) == {"00000.png": "photo of a {dog}", "00001.png": "photo of a {dog}", "0.jpg": "photo of a {house}"}
    (problem,) = images.problems
    assert (problem.path, problem.message) == (made_set.parent, "contains 2 class images without a caption")
    assert problem.advice == (
        "Add a .txt file with a caption for each, or give a set made by `dreambooth prior` (it has a manifest.json)."
    )


def test_earlier_class_images_cannot_use_this_run_s_class_word(tmp_path: Path, make_photo: MakePhoto) -> None:
    make_photo("a.jpg")
    (tmp_path / "photos" / "a.txt").write_text("photo of a {class_word}")
    images = also_prior_images(tmp_path / "photos", resolution=64)
    assert images.images == ()
    assert errors(images) == [("a.jpg", "has {class_word} in its caption, but the class word of an earlier subject is unknown")]


@pytest.mark.parametrize("look", [as_cats, lambda folder: also_prior_images(folder, resolution=64)])
def test_a_run_folder_is_refused(tmp_path: Path, make_photo: MakePhoto, look: Callable[[Path], PriorImages]) -> None:
    make_photo("previews/a.png", folder=tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("")
    (tmp_path / "run" / "events.jsonl").write_text("")
    images = look(tmp_path / "run")
    assert images.images == ()
    assert errors(images) == [("run", "is a run folder; its images are previews, not class images")]
    assert "class-images/<class word>-<key>" in images.problems[0].advice


@pytest.mark.parametrize("look", [as_cats, lambda folder: also_prior_images(folder, resolution=64)])
def test_problems_of_the_scan_are_passed_on(tmp_path: Path, look: Callable[[Path], PriorImages]) -> None:
    assert errors(look(tmp_path / "nowhere")) == [("nowhere", "does not exist")]
    (tmp_path / "a.png").write_bytes(b"")
    assert errors(look(tmp_path)) == [("a.png", "is empty (0 bytes)")]


def test_a_damaged_manifest_is_an_error(made_set: Path) -> None:
    (made_set / "manifest.json").write_text("{")
    ((name, message),) = errors(as_cats(made_set))
    assert name == "manifest.json" and message.startswith("cannot be read: ")
