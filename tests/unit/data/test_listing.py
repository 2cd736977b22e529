from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth.data.listing import list_folder
from dreambooth.pages.images import save_picture, write_contact_sheet


def touch(folder: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def names(paths: tuple[Path, ...], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_pictures_are_found_recursively_in_the_order_of_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a/z.jpeg", "a.jpg", "a/b/c.webp", "B.jpg", "10.heic", "9.avif")
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["10.heic", "9.avif", "B.jpg", "a.jpg", "a/b/c.webp", "a/z.jpeg", "b.PNG"]
    assert listing.problems == ()


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c/d.jpg", "e/f.jpg", "e/g.jpg", "\u00e9.jpg")
    expected = list_folder(tmp_path).pictures
    walk = os.walk

    def backwards(*arguments: object, **options: object) -> object:
        for place, folders, files in walk(*arguments, **options):  # type: ignore[call-overload]
            folders.reverse()
            yield place, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert list_folder(tmp_path).pictures == expected


def test_junk_is_passed_over_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, ".DS_Store", "Thumbs.db", "desktop.ini", "._a.jpg", ".hidden/a.jpg", "__MACOSX/a.jpg")
    touch(tmp_path, ".ipynb_checkpoints/a-checkpoint.jpg", "manifest.json", "@eaDir/a.jpg", "a.jpg")
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["a.jpg"]
    assert listing.problems == () and listing.captions == ()


def test_latents_are_known_beside_a_manifest_only(tmp_path: Path) -> None:
    touch(tmp_path, "set/manifest.json", "set/00000.png", "set/00000.safetensors", "real/a.jpg", "real/a.safetensors")
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["real/a.jpg", "set/00000.png"]
    assert [problem.path for problem in listing.problems] == [tmp_path / "real" / "a.safetensors"]


def test_other_files_are_skipped_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "README.md", "video.mp4", "a.jpg", "raw.NEF", "a.txt")
    listing = list_folder(tmp_path)
    assert names(listing.captions, tmp_path) == ["a.txt"]
    assert [(problem.path.name, problem.severity, problem.message) for problem in listing.problems] == [
        ("README.md", "warning", "is not an image; skipped"),
        ("raw.NEF", "warning", "is a camera raw file; skipped"),
        ("video.mp4", "warning", "is not an image; skipped"),
    ]


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.TGA", "b.ico", "c.psd", "d.svg")
    assert [(problem.path.name, problem.message) for problem in list_folder(tmp_path).problems] == [
        ("a.TGA", "is in the TGA format, which is not supported; skipped"),
        ("b.ico", "is in the ICO format, which is not supported; skipped"),
        ("c.psd", "is in the Photoshop format, which is not supported; skipped"),
        ("d.svg", "is in the SVG format, which is not supported; skipped"),
    ]


def test_photos_that_are_still_in_the_cloud_are_told(tmp_path: Path) -> None:
    touch(tmp_path, ".IMG_1.HEIC.icloud", "a.jpg", ".hidden")
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["a.jpg"]
    (problem,) = listing.problems
    assert problem.message == "stands for IMG_1.HEIC, which is still in iCloud; skipped" and "Download Now" in problem.advice


def test_grids_are_no_pictures_of_a_set(tmp_path: Path) -> None:
    one = np.zeros((16, 16, 3), dtype=np.uint8)
    save_picture(tmp_path / "00000-grid-paper.png", torch.zeros(3, 16, 16), {"parameters": "", "dreambooth": "{}"})
    write_contact_sheet(tmp_path / "00000-grid-a-dog.png", [[one, one]])
    write_contact_sheet(tmp_path / "a-title-0000.png", [[one]])
    Image.new("RGB", (20, 20)).save(tmp_path / "00004-grid-of-an-earlier-version.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "grid.png")
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["00000-grid-paper.png", "grid.png"]
    assert {problem.message for problem in listing.problems} == {
        "is a sheet of several images that this program wrote; skipped"
    }


def test_a_picture_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "photo", "JPEG")
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.jpg_large", "PNG")
    assert names(list_folder(tmp_path).pictures, tmp_path) == ["photo", "photo.jpg_large"]


def test_a_missing_folder_and_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for name, message in (("nowhere", "does not exist"), ("a.jpg", "is a file, not a folder")):
        (problem,) = list_folder(tmp_path / name).problems
        assert (problem.path, problem.severity, problem.message) == (tmp_path / name, "error", message)
        assert problem.advice == "Give the folder that contains the images."


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "outside/a.jpg", "photos/b.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "outside")
    for name in ("round", "again", "once more"):
        (tmp_path / "outside" / name).symlink_to(tmp_path / "photos")
    assert names(list_folder(tmp_path / "photos").pictures, tmp_path) == ["photos/b.jpg", "photos/more/a.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.txt", "00000-grid-1.png", "a", "sub/b.webp"])
def test_a_named_pipe_is_skipped_and_never_waited_for(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "z.jpg", "sub/z.jpg")
    os.mkfifo(tmp_path / name)
    listing = list_folder(tmp_path)
    assert names(listing.pictures, tmp_path) == ["sub/z.jpg", "z.jpg"] and listing.captions == ()
    (problem,) = listing.problems
    assert problem.path == tmp_path / name and problem.message == "is a named pipe, a socket or a device; skipped"
