"""Folders that hardly mean what they would be taken for are told in one line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from dreambooth.data.folder_layouts import crop_warnings, layout_warnings
from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings

MakePhoto = Callable[..., Path]


def warnings(photos: Path, *, captions: str = "prompt", **prior: object) -> list[str]:
    subject = SubjectSettings.model_validate({"photos": photos, "class_word": "vase", "captions": captions})
    asked = PriorSettings.model_validate(prior or {"prior_weight": 0})
    return layout_warnings(find_pictures(subject, asked, resolution=64), subject, asked)


def make(make_photo: MakePhoto, folder: Path, *names: str, text: str | None = None, suffix: str = ".txt") -> Path:
    for name in names:
        path = make_photo(name, folder=folder, seed=len(list(folder.parent.rglob("*"))))
        if text is not None:
            path.with_suffix(suffix).write_text(text, encoding="utf-8")
    return folder


def test_one_folder_is_as_it_should_be(make_photo: MakePhoto, tmp_path: Path) -> None:
    assert warnings(make(make_photo, tmp_path / "p", "1.png", "2.png", "3.png")) == []
    assert warnings(make(make_photo, tmp_path / "q", "rex/1.png", "rex/2.png")) == []


def test_several_subjects_under_one_name(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "rex/1.png", "rex/2.png", "ada/1.png")
    (told,) = warnings(folder)
    assert told.startswith("the photos lie in 2 folders (ada, rex), and all are captioned 'photo of a sks vase'")
    assert told.endswith("--captions filename")
    assert warnings(folder, captions="filename") == []


def test_photos_that_say_who_they_are_may_lie_anywhere(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "rex/1.png", "ada/1.png", text="a {token} {class_word}")
    assert warnings(folder) == []


def test_class_images_below_the_photos(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "1.png", "2.png", "3.png", "others/4.png", "others/5.png")
    (told,) = warnings(folder, prior_images=folder / "others")
    assert told.startswith(f"the class images in {folder / 'others'} lie below the photos in {folder}, so 2 pictures in it are")


def test_a_folder_named_like_class_images(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "img/1.png", "Reg/2.png")
    (told,) = warnings(folder)
    assert told.startswith(f"{folder / 'Reg'} is named like class images, and 1 picture in it is trained as")
    assert told.endswith(f"--prior-images {folder / 'Reg'}")


def test_folders_of_another_trainer(make_photo: MakePhoto, tmp_path: Path) -> None:
    photos = make(make_photo, tmp_path / "img", "10_sks vase/1.png", "10_sks vase/2.png", text="a sks vase", suffix=".caption")
    regs = make(make_photo, tmp_path / "reg", "1_vase/1.png")
    (told,) = warnings(photos, prior_images=regs)
    assert told.startswith(
        "'10_sks vase', '1_vase' are named as kohya's trainer names folders. The repeats (10, 1) are not needed"
    )
    assert told.endswith(". Its .caption files are read like .txt files")
    (same,) = warnings(photos / "10_sks vase")
    assert same.startswith("'10_sks vase' is named as kohya's trainer names folders.")


def test_another_token_in_the_name_of_a_folder(make_photo: MakePhoto, tmp_path: Path) -> None:
    photos = make(make_photo, tmp_path / "img", "10_zwx golden retriever/1.png")
    first, second = warnings(photos)
    assert second.endswith("--token zwx --class-word 'golden retriever', or --captions filename")
    assert warnings(photos, captions="filename") == [first]


def test_everything_of_another_trainer_at_once(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "k", "img/10_sks vase/1.png", "reg/1_vase/2.png")
    named, mixed = warnings(folder)
    assert "kohya" in named
    assert mixed.startswith(f"{folder / 'reg'} is named like class images") and f"--prior-images {folder / 'reg'}" in mixed


def test_masks_in_a_folder_below_the_photos(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "1.png", "2.png", "Masks/1.png", "Masks/2.png", text="a {token}")
    (told,) = warnings(folder)
    assert told.startswith(f"{folder / 'Masks'} is named like masks, and 2 pictures in it are trained as photos of the subject")
    assert told.endswith("give it to --mask-folder")
    assert warnings(make(make_photo, tmp_path / "masks", "1.png")) == []


def test_a_crop_around_a_subject_that_no_mask_shows(make_photo: MakePhoto, tmp_path: Path) -> None:
    folder = make(make_photo, tmp_path / "p", "1.png", "2.png", "3.png")
    mask = Image.new("L", (96, 80))
    mask.paste(255, (8, 8, 40, 40))
    mask.save(folder / "2-mask.png")
    subject = SubjectSettings(photos=folder, class_word="vase")
    pictures = find_pictures(subject, PriorSettings(prior_weight=0), resolution=64)
    (told,) = crop_warnings(pictures, ViewSettings(crop="subject"))
    assert told == (
        "crop is subject, but 2 of 3 photos have no mask and no marked face, such as 1.png: they are cropped in the middle"
    )
    assert crop_warnings(pictures, ViewSettings()) == []
