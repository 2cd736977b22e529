"""What comes from a browser is a whole picture or a caption, under a name of ours, and overwrites nothing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient

from dreambooth.web import uploads
from dreambooth.web.desk import Desk
from dreambooth.web.uploads import receive, safe_name
from tests.unit.web.conftest import picture_bytes


def _file(name: str, content: bytes) -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


def _zip(members: dict[str, bytes], *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo("link.png")
            info.external_attr = 0o120777 << 16
            archive.writestr(info, link)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("rex 1.JPG", "rex-1.jpg"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\photos\\a.png", "a.png"),
        (".hidden.png", "hidden.png"),
        ("犬.png", "犬.png"),
        ("a\0\n.png", "a.png"),
        ("...png", "photo.png"),
        (".png", "photo.png"),
        ("a.p/n:g", "n-g"),
        ("x" * 300 + ".png", "x" * 80 + ".png"),
    ],
)
def test_names_are_made_harmless(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_two_photos_of_one_name_stay_two_and_one_photo_stays_one(tmp_path: Path) -> None:
    first, second = picture_bytes(seed=1), picture_bytes(seed=2)
    receive([_file("a.png", first), _file("b/a.png", second), _file("a.png", first)], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": first, "a-2.png": second}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.png", picture_bytes()[:200], "cannot be decoded"),
        ("a.jpg", b"<script>alert(1)</script>", "is not an image"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        ("a.png", b"", "is empty"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.zip", b"PK\x03\x04 no", "is not a ZIP file"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_name(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    received = receive([_file(name, content)], tmp_path)
    assert why in received.refused[0] and received.refused[0].startswith("a.")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_with_a_page_behind_it_is_served_without_the_page(client: TestClient, desk: Desk) -> None:
    desk.projects.create("Rex")
    polyglot = picture_bytes(form="JPEG") + b"<html><script>alert(1)</script></html>"
    client.post("/projects/rex/photos", files={"files": ("a.jpg", polyglot)})
    card = client.get("/api/v1/projects/rex/photos").json()["photos"][0]
    answer = client.get(f"/projects/rex/photos/{card['id']}")
    assert answer.headers["content-type"] == "image/jpeg" and b"script" not in answer.content


def test_a_photo_that_is_too_large_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_PHOTO_BYTES", 1000)
    file = _file("a.png", b"x" * 10_000)
    assert "is larger than" in receive([file], tmp_path).refused[0]
    assert file.file.tell() == 1001


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "free_disk_bytes", lambda path: 1000)
    assert "no room left" in receive([_file("a.png", picture_bytes())], tmp_path).refused[0]


def test_a_zip_is_taken_apart_without_its_paths_and_links(tmp_path: Path) -> None:
    members = {
        "../../evil.png": picture_bytes(seed=1),
        "in/a.png": picture_bytes(seed=2),
        "__MACOSX/a.png": b"x",
        "a.txt": b"a dog",
    }
    received = receive([_file("photos.zip", _zip(members, link="/etc/passwd"))], tmp_path / "photos")
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a.png", "a.txt", "evil.png"]
    assert received.refused == [] and not (tmp_path / "evil.png").exists()


def test_a_zip_bomb_ends_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MOST_UNPACKED_BYTES", 3 << 20)
    bomb = _zip({f"{number}.png": bytes(2 << 20) for number in range(50)})
    assert len(bomb) < 1 << 20
    received = receive([_file("bomb.zip", bomb)], tmp_path)
    assert len(received.refused) == 2 and "unpacks to more than" in received.refused[-1]
