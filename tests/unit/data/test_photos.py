from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreambooth.data import decoding
from dreambooth.data.photos import MAX_PHOTOS, PhotoReport, read_pixels, scan_photos
from dreambooth.data.settings import ViewSettings
from dreambooth.errors import PhotoError

MakePhoto = Callable[..., Path]


def scan(folder: Path, resolution: int = 64) -> PhotoReport:
    return scan_photos(folder, role="instance", resolution=resolution)


def found(report: PhotoReport) -> list[tuple[str, str, str]]:
    return [(problem.path.name, problem.severity, problem.message) for problem in report.problems]


@pytest.fixture
def folder(tmp_path: Path, make_photo: MakePhoto) -> Path:
    """Three good photos."""
    for index in range(3):
        make_photo(f"{index}.png", seed=index)
    return tmp_path / "photos"


def test_real_photos_have_no_problems(real_photos: Path) -> None:
    report = scan(real_photos, resolution=512)
    assert report.problems == () and report.rows() == []
    report.raise_if_errors()
    assert [photo.path.name for photo in report.photos] == ["00.jpg", "01.jpg", "02.jpg"]
    first = report.photos[0]
    assert (first.width, first.height, first.caption) == (512, 512, None)
    assert first.digest == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_the_shipped_photos_are_small(real_photos: Path) -> None:
    assert all(path.stat().st_size < 60_000 for path in real_photos.glob("*.jpg"))
    notes = (real_photos.parent / "README.md").read_text(encoding="utf-8")
    assert "CC-BY-4.0" in notes and "Yuanzhen Li" in notes and "github.com/google/dreambooth" in notes


def test_size_is_that_of_the_upright_picture(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (70, 100, 3), dtype=np.uint8)).save(
        folder / "turned.jpg", exif=exif
    )
    photo = scan(folder).photos[-1]
    assert (photo.width, photo.height) == (70, 100)
    assert read_pixels(photo.path, background="white").shape == (100, 70, 3)


def test_every_problem_is_found_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_FORMATS", tuple(form for form in decoding._FORMATS if form != "HEIF"))
    whole = (folder / "0.png").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_bytes(b"this is no picture")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    Image.new("RGB", (8, 200)).save(folder / "line.png")
    (folder / "notes.md").write_text("notes")
    report = scan(folder)
    assert [photo.path.name for photo in report.photos] == ["0.png", "1.png", "2.png"]
    assert [problem.path.name for problem in report.warnings] == ["notes.md"]
    errors = {problem.path.name: problem.message for problem in report.errors}
    assert errors.pop("cut.png").startswith("cannot be decoded completely: ")
    assert errors == {
        "empty.jpg": "is empty (0 bytes)",
        "gone.jpg": "cannot be read: No such file or directory",
        "line.png": "is only 8 x 200 pixels",
        "phone.heic": "is in the HEIC format, which is not supported",
        "text.jpg": "is not an image, or its header is damaged",
    }
    rows = report.rows()
    assert [row[1].split(":")[0] for row in rows] == ["error"] * 6 + ["warning"]
    with pytest.raises(PhotoError) as caught:
        report.raise_if_errors()
    assert len(caught.value.problems) == 6
    assert f"{folder / 'empty.jpg'}: is empty (0 bytes). Copy it again from the source, or remove it." in (
        caught.value.problems
    )


def test_captions_beside_photos(folder: Path) -> None:
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfthe {token}\nasleep")
    (folder / "1.txt").write_text("  \n")
    (folder / "2.TXT").write_text("the {class_word}")
    (folder / "lost.txt").write_text("nobody")
    report = scan(folder)
    assert [photo.caption for photo in report.photos] == ["the {token}", None, "the {class_word}"]
    assert [photo.other_captions for photo in report.photos] == [("asleep",), (), ()]
    assert found(report) == [
        ("1.txt", "warning", "is an empty caption; skipped"),
        ("lost.txt", "warning", "is a caption without an image; skipped"),
    ]


def test_a_wrong_caption_is_an_error(folder: Path) -> None:
    (folder / "0.txt").write_text("a {subject}")
    report = scan(folder)
    assert found(report) == [
        ("0.txt", "error", "'a {subject}' has the unknown placeholder {subject}; expected {class_word} and {token}")
    ]


def test_captions_of_class_images_must_not_name_the_token(folder: Path) -> None:
    (folder / "0.txt").write_text("a {token}")
    assert [problem.path.name for problem in scan_photos(folder, role="prior", resolution=64).errors] == ["0.txt"]


def test_duplicates_name_their_pair(folder: Path) -> None:
    shutil.copy(folder / "1.png", folder / "copy.png")
    Image.open(folder / "0.png").save(folder / "again.bmp")
    Image.open(folder / "2.png").resize((192, 160)).save(folder / "enlarged.png")
    report = scan(folder)
    assert found(report) == [
        ("again.bmp", "warning", f"is identical to {folder / '0.png'}"),
        ("copy.png", "warning", f"is identical to {folder / '1.png'}"),
        ("enlarged.png", "warning", f"is nearly identical to {folder / '2.png'}"),
    ]
    assert report.warnings[0].advice == "Remove one of them: a duplicate counts twice."
    assert len(report.photos) == 6
    as_class_images = scan_photos(folder, role="prior", resolution=64)
    assert [problem.path.name for problem in as_class_images.problems] == ["again.bmp", "copy.png"]


def test_small_photos_are_told_and_small_class_images_are_not(folder: Path, make_photo: MakePhoto) -> None:
    make_photo("small.png", width=120, height=63, seed=5)
    report = scan(folder)
    assert found(report) == [("small.png", "warning", "is 120 x 63 pixels, smaller than the training size of 64")]
    assert scan_photos(folder, role="prior", resolution=64).problems == ()


@pytest.mark.parametrize(
    ("number", "message"), [(1, "contains only 1 photo of the subject"), (2, "contains only 2 photos of the subject")]
)
def test_too_few_photos(tmp_path: Path, make_photo: MakePhoto, number: int, message: str) -> None:
    for index in range(number):
        make_photo(f"{index}.png", seed=index)
    assert found(scan(tmp_path / "photos")) == [("photos", "warning", message)]
    assert scan_photos(tmp_path / "photos", role="prior", resolution=64).problems == ()


def test_too_many_photos(tmp_path: Path, make_photo: MakePhoto) -> None:
    for index in range(MAX_PHOTOS + 1):
        make_photo(f"{index:03d}.png", seed=index, width=16, height=16)
    report = scan(tmp_path / "photos", resolution=16)
    assert [problem.message for problem in report.problems] == ["contains 101 photos of the subject"]
    (tmp_path / "photos" / "000.png").unlink()
    assert scan(tmp_path / "photos", resolution=16).problems == ()


def test_no_photos_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"x")
    assert found(scan(tmp_path / "empty")) == [("empty", "error", "contains no images")]
    assert found(scan(tmp_path / "nowhere")) == [("nowhere", "error", "does not exist")]
    (tmp_path / "empty" / "a.jpg").write_bytes(b"")
    assert found(scan(tmp_path / "empty")) == [("a.jpg", "error", "is empty (0 bytes)")]


def test_an_animation_is_used_with_a_warning(folder: Path) -> None:
    frames = [Image.new("RGB", (80, 80), colour) for colour in ("red", "green")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    report = scan(folder)
    assert found(report) == [("moving.gif", "warning", "has 2 frames; only the first one is used")]
    assert read_pixels(folder / "moving.gif", background="white")[40, 40].tolist() == [255, 0, 0]


def test_transparent_photos_lie_on_the_background(folder: Path) -> None:
    image = Image.new("RGBA", (80, 80), (255, 0, 0, 0))
    image.putpixel((79, 79), (255, 0, 0, 255))
    image.save(folder / "clear.png")
    assert scan(folder).problems == ()
    assert read_pixels(folder / "clear.png", background="#0000ff")[0, 0].tolist() == [0, 0, 255]


def test_reading_pixels_of_a_file_that_changed_since(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"")
    with pytest.raises(PhotoError) as caught:
        read_pixels(folder / "0.png", background="white")
    assert caught.value.problems == (f"{folder / '0.png'}: is empty (0 bytes)",)
    with pytest.raises(PhotoError, match="cannot be read: No such file or directory"):
        read_pixels(folder / "nowhere.png", background="white")


def test_pictures_that_show_nothing_are_told(folder: Path) -> None:
    Image.new("RGB", (96, 80)).save(folder / "black.jpg")
    Image.new("RGBA", (96, 80), (9, 9, 9, 0)).save(folder / "clear.png")
    shape = Image.new("RGBA", (96, 80), (0, 0, 0, 0))
    shape.paste((0, 0, 0, 255), (20, 20, 60, 60))
    shape.save(folder / "shape.png")
    told = [(name, what) for name, _, what in found(scan(folder)) if "identical" not in what]
    assert told == [
        ("black.jpg", "is completely black"),
        ("clear.png", "is completely transparent: only the background color can be seen"),
    ]
    assert scan(folder).errors == ()


def test_a_panorama_is_told(folder: Path, make_photo: MakePhoto) -> None:
    make_photo("wide.png", width=3000, height=64, seed=9)
    make_photo("banner.png", width=240, height=80, seed=10)
    assert found(scan(folder)) == [
        ("wide.png", "warning", "is 3000 x 64 pixels: a square of it shows at most 2.1% of the picture")
    ]


def test_a_caption_is_found_however_accents_are_written(tmp_path: Path, make_photo: MakePhoto) -> None:
    make_photo("e\u0301te\u0301.png")
    (tmp_path / "photos" / "\u00e9t\u00e9.txt").write_text("in summer", encoding="utf-8")
    report = scan(tmp_path / "photos")
    assert [photo.caption for photo in report.photos] == ["in summer"]


def test_captions_under_the_names_that_other_programs_give(folder: Path) -> None:
    (folder / "0.caption").write_text("by kohya", encoding="utf-8")
    (folder / "1.png.txt").write_text("with both suffixes", encoding="utf-8")
    (folder / "2.TXT").write_text("the first", encoding="utf-8")
    (folder / "2.caption").write_text("the second", encoding="utf-8")
    (folder / "meta_cap.json").write_text("{}", encoding="utf-8")
    report = scan(folder)
    assert [photo.caption for photo in report.photos] == ["by kohya", "with both suffixes", "the first"]
    assert found(report) == [
        ("meta_cap.json", "warning", "is a table of captions for another program; skipped"),
        ("2.caption", "warning", "is a second caption of its image; skipped"),
    ]


def test_small_photos_are_enlarged_or_refused(folder: Path) -> None:
    report = scan_photos(folder, role="instance", resolution=100, views=ViewSettings(smallest_side=80))
    assert {one.message for one in report.warnings} == {"is 96 x 80 pixels, smaller than the training size of 100"}
    report = scan_photos(folder, role="instance", resolution=64, views=ViewSettings(smallest_side=81))
    assert {one.message for one in report.errors} == {"is 96 x 80 pixels, smaller than the smallest side of 81"}


def test_more_of_a_panorama_is_seen_in_a_wide_bucket(tmp_path: Path, make_photo: MakePhoto) -> None:
    for index in range(3):
        make_photo(f"{index}.png", width=400, height=80, seed=index)
    report = scan_photos(tmp_path / "photos", role="instance", resolution=64, views=ViewSettings(crop="bucket"))
    assert {one.message for one in report.warnings} == {"is 400 x 80 pixels: a training image shows at most 40% of the picture"}
