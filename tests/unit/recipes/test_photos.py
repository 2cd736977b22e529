"""`dreambooth photos`: training's check of the photos, with all views to look at."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dreambooth.config import parse_settings
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import PhotoError, SettingsError
from dreambooth.pages.settings import PhotoCheckSettings
from dreambooth.recipes.photos import PhotoCheck, check_photos


def picture(path: Path, seed: int, *, width: int = 96, height: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for index in range(3):
        picture(folder / f"{index}.png", index)
    return folder


def check(photos: Path, **values: Any) -> tuple[PhotoCheck, str]:
    text = io.StringIO()
    subject = {"photos": photos, "class_word": "dog", **values.pop("subject", {})}
    given = {"subject": subject, "output": photos.parent / "check", "views": {"resolution": 64}, **values}
    settings = parse_settings(PhotoCheckSettings, given, where="test")
    return check_photos(settings, ConsoleDisplay(Console(file=text, width=200))), text.getvalue()


def test_every_view_is_on_the_page_and_on_the_sheet(photos: Path) -> None:
    (photos / "1.txt").write_text("a {token} on a sofa\nthe <{token}> {class_word}\n", encoding="utf-8")
    result, said = check(photos, views={"resolution": 64, "crop": "random", "flip_probability": 0.5})
    page = result.page.read_text(encoding="utf-8")
    assert page.count("<figure>") == 3 * 8 * 2, "eight crops of each photo, each also mirrored"
    assert "a sks on a sofa" in page and "the &lt;sks&gt; dog" in page and "photo of a sks dog" in page
    assert "http" not in page
    (sheet,) = result.sheets
    with Image.open(sheet) as opened:
        assert opened.width > 16 * 64
    assert "3 photos can be used at 64 px" in said


def test_what_a_mask_leaves_out_is_darker(photos: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(photos / "3.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(photos / "3-mask.png")
    result, said = check(photos, views={"resolution": 64, "flip_probability": 0}, subject={"mask_weight": 0})
    with Image.open(result.sheets[0]) as sheet:
        pixels = np.asarray(sheet.convert("L"))[3 * 68 :, 160:224]
    assert pixels[10:50, 2:30].mean() > 250 and pixels[10:50, 36:60].mean() == pytest.approx(64, abs=2)
    assert "4 photos can be used at 64 px, 1 with a mask" in said
    assert "3 of 4 photos have no mask, such as 0.png" in said


def test_the_page_says_what_each_photo_is_cropped_around(photos: Path) -> None:
    for name in ("0", "1"):
        pixels = np.asarray(Image.open(photos / f"{name}.png")).copy()
        pixels[30:50, 60:80] = (255, 0, 0)
        Image.fromarray(pixels).save(photos / f"{name}.png")
    Image.fromarray(np.full((80, 96), 255, dtype=np.uint8)).save(photos / "1-mask.png")
    face = (
        '<x xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:i="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" '
        'xmlns:m="http://ns.microsoft.com/photo/1.2/t/Region#"><i:Regions><r:Bag><r:li m:Rectangle="0.1,0.2,0.1,0.1"/></r:Bag>'
        "</i:Regions></x>"
    )
    Image.open(photos / "2.png").convert("RGB").save(photos / "2.jpg", xmp=face.encode())
    (photos / "2.png").unlink()
    Image.new("RGB", (96, 80), "blue").save(photos / "3.png")
    result, said = check(photos, views={"resolution": 64, "crop": "subject"})
    page = result.page.read_text(encoding="utf-8")
    told = [line.removeprefix("<p>Crop: ").removesuffix("</p>") for line in page.splitlines() if line.startswith("<p>Crop: ")]
    assert told == [
        "around what stands out (saliency); a mask shows it exactly",
        "around the mask",
        "around the face that is marked in the file",
        "in the middle",
    ]
    assert "1 of 4 photos has no mask and no marked face, such as 0.png: it is cropped around what stands out" in said
    assert "1 of 4 photos has no mask and no marked face, such as 3.png: it is cropped in the middle" in said
    assert "Crop: " not in check(photos)[0].page.read_text(encoding="utf-8")


def test_problems_are_those_of_training_and_the_page_is_written_first(photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    (photos / "0.txt").write_text("a {subject}", encoding="utf-8")
    (photos / "copy.png").write_bytes((photos / "1.png").read_bytes())
    with pytest.raises(PhotoError) as caught:
        check(photos)
    assert [problem.split(": ")[0].rsplit("/", 1)[-1] for problem in caught.value.problems] == ["0.txt", "bad.jpg"]
    page = (photos.parent / "check" / "photos.html").read_text(encoding="utf-8")
    assert "is not an image, or its header is damaged" in page
    assert "is identical to" in page


@pytest.fixture
def listed(tmp_path: Path) -> list[dict[str, str]]:
    """Four photos of a dog, two of a cat."""
    for seed, (token, number) in enumerate([*(("rex", number) for number in range(4)), ("ada", 0), ("ada", 1)]):
        picture(tmp_path / token / f"{token}-{number}.png", seed)
    return [
        {"photos": str(tmp_path / token), "token": token, "class_word": word}
        for token, word in (("rex", "dog"), ("ada", "cat"))
    ]


def check_listed(
    listed: list[dict[str, str]], folder: Path, *, text: io.StringIO | None = None, **values: Any
) -> tuple[PhotoCheck, str]:
    text = text or io.StringIO()
    given = {"subject": {"subjects": listed}, "output": folder / "check", "views": {"resolution": 64}, **values}
    settings = parse_settings(PhotoCheckSettings, given, where="test")
    return check_photos(settings, ConsoleDisplay(Console(file=text, width=300))), text.getvalue()


def test_several_subjects_have_a_part_each_of_the_page(listed: list[dict[str, str]], tmp_path: Path) -> None:
    result, said = check_listed(listed, tmp_path)
    headings = re.findall(r"<h[23][^>]*>(.*?)</h", result.page.read_text(encoding="utf-8"))
    photos = {token: [f"{token}-{number}.png" for number in range(num)] for token, num in (("rex", 4), ("ada", 2))}
    assert headings == ["Problems", "rex dog", *photos["rex"], "ada cat", *photos["ada"]]
    assert "6 photos of 2 subjects can be used at 64 px" in said
    result, _ = check_listed(listed, tmp_path, most_photos=3)
    assert re.findall(r"<h3>(.*?)</h", result.page.read_text(encoding="utf-8")) == ["rex-0.png", "rex-1.png", "ada-0.png"]


def test_what_is_wrong_is_told_once_and_with_its_subject(listed: list[dict[str, str]], tmp_path: Path) -> None:
    """Errors stood in the table and in the message, and neither said whose photo it was."""
    (tmp_path / "ada" / "bad.jpg").write_bytes(b"no picture")
    picture(tmp_path / "rex" / "small.png", 9, width=60, height=60)
    text = io.StringIO()
    with pytest.raises(PhotoError) as caught:
        check_listed(listed, tmp_path, text=text)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [f"{tmp_path}/ada/bad.jpg (ada cat)"]
    assert "bad.jpg" not in text.getvalue()
    assert f"{tmp_path}/rex/small.png (rex dog)" in text.getvalue()


def test_a_token_that_no_caption_says_is_an_error(photos: Path) -> None:
    with pytest.raises(PhotoError, match="none of the 3 captions says the token 'sks'"):
        check(photos, subject={"instance_prompt": "photo of a {class_word}"})


def test_no_photo_is_an_error_without_a_page(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(PhotoError, match="contains no images"):
        check(tmp_path / "photos")
    assert not (tmp_path / "check").exists()


def test_the_page_is_not_written_among_the_photos(photos: Path) -> None:
    with pytest.raises(SettingsError, match="inside the photo folder"):
        check(photos, output=photos / "check")


def test_many_photos_are_all_checked_and_a_few_are_shown(photos: Path) -> None:
    result, said = check(photos, most_photos=2, views={"resolution": 64, "flip_probability": 0})
    assert result.page.read_text(encoding="utf-8").count("<figure>") == 2
    assert result.num_photos == 3
    assert "The views of 2 photos" in said


def test_an_archive_takes_the_place_of_the_folder(photos: Path) -> None:
    archive = Path(shutil.make_archive(str(photos.parent / "rex"), "zip", photos))
    result, said = check(archive, subject={"photos": archive})
    assert result.num_photos == 3
    assert "3 photos can be used at 64 px" in said


def test_class_images_are_checked_as_well(photos: Path, tmp_path: Path) -> None:
    for index in range(2):
        picture(tmp_path / "dogs" / f"{index}.png", 10 + index)
    (tmp_path / "dogs" / "same.png").write_bytes((photos / "1.png").read_bytes())
    result, said = check(photos, prior_images=tmp_path / "dogs")
    assert result.num_class_images == 3
    assert "1 of the class images are photos of the subject" in said
