"""Photos that arrive through the browser."""

from __future__ import annotations

import hashlib
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from dreambooth.notebook import uploads
from dreambooth.notebook.uploads import ask_for_photos, photo_report, safe_name, save_uploads


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("rex.jpg", "rex.jpg"),
        ("My Dog (1).JPG", "My-Dog-1-28b00a.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\rex.png", "rex.png"),
        (".bashrc", "bashrc-b7cf3e"),
        ("..", "file-5ec1f7"),
        ("", "file-e3b0c4"),
        ("a\x00b\nc.png", "a-b-c-214df3.png"),
        ("Grüße.jpeg", "Grüße.jpeg"),
        ("x" * 300 + ".png", "x" * 80 + "-0d4e2c.png"),
        ("archive.tar.gz", "archive.tar.gz"),
    ],
)
def test_names_stay_in_their_folder_and_can_be_typed(given: str, safe: str) -> None:
    assert safe_name(given) == safe


def test_different_names_stay_different() -> None:
    names = [
        "IMG (1).jpg",
        "IMG-1.jpg",
        "a b.png",
        "a-b.png",
        "\U0001f600.jpg",
        "\U0001f603.jpg",
        *(f"{'x' * 90}{n}.png" for n in (1, 2)),
    ]
    assert len({safe_name(name) for name in names}) == len(names)


def test_a_photo_and_its_caption_still_belong_together() -> None:
    assert Path(safe_name("My Dog.JPG")).stem == Path(safe_name("My Dog.txt")).stem


def test_uploads_are_written_and_may_be_repeated(tmp_path: Path) -> None:
    files = [{"name": "a b.png", "content": memoryview(b"one")}, {"name": "c.txt", "content": memoryview(b"two")}]
    changed = f"a-b-{hashlib.sha256(b'a b').hexdigest()[:6]}.png"
    assert save_uploads(files, tmp_path) == [tmp_path / changed, tmp_path / "c.txt"]
    save_uploads([{"name": "a b.png", "content": memoryview(b"three")}], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {changed: b"three", "c.txt": b"two"}


def test_the_older_widgets_hold_files_by_name(tmp_path: Path) -> None:
    files = {"a.png": {"metadata": {"size": 3}, "content": b"one"}, "../b.png": {"content": b"two"}}
    assert save_uploads(files, tmp_path) == [tmp_path / "a.png", tmp_path / "b.png"]
    assert (tmp_path / "b.png").read_bytes() == b"two"


def test_the_report_shows_the_photos_and_the_table_of_the_command(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    report = photo_report(folder, resolution=64)
    assert "3 usable photos, no problems" in report
    assert report.count("data:image/png;base64,") == 3
    (folder / "broken.png").write_bytes(b"no picture")
    report = photo_report(folder, resolution=1024)
    assert "1 errors (fix these before training), 3 warnings" in report
    assert "<th" in report and "what to do" in report and "broken.png" in report


def test_an_empty_folder_is_reported_and_not_raised(tmp_path: Path) -> None:
    assert "contains no images" in photo_report(tmp_path, resolution=64)


def test_what_is_uploaded_is_saved_and_looked_at(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(uploads, "show", shown.append)
    folder = tmp_path / "photos"
    ask_for_photos(folder, resolution=64)
    (button,) = shown
    assert folder.is_dir()
    content = (photos / "00.jpg").read_bytes()
    about = {"type": "image/jpeg", "size": len(content), "last_modified": datetime.now(tz=timezone.utc)}
    button.value = ({"name": "my rex.jpg", "content": memoryview(content), **about},)
    assert [path.read_bytes() for path in folder.glob("my-rex-*.jpg")] == [content]
    assert button.value == ()


def test_without_widgets_the_folder_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(uploads, "show", shown.append)
    monkeypatch.setattr(uploads, "find_widgets", lambda: None)
    ask_for_photos(tmp_path, resolution=64)
    assert len(shown) == 1 and "contains no images" in shown[0]
