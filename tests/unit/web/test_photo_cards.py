"""Each photo's card shows what training sees of it, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.data.records import Photo
from dreambooth.data.size import Size
from dreambooth.data.views import central_view
from dreambooth.web.desk import Desk
from dreambooth.web.photo_cards import central_square
from tests.unit.web.conftest import picture_bytes


@pytest.mark.parametrize("size", [(80, 64), (64, 81), (7, 6), (1001, 1000), (50, 50), (4000, 333)])
def test_the_square_is_that_of_the_training(size: tuple[int, int]) -> None:
    view = central_view(Photo(Path("a.png"), "", *size, caption=None), Size.square(512))
    assert central_square(*size) == (view.left, view.top, view.width) and view.width == view.height


def test_problems_and_captions_are_at_their_cards(client: TestClient, desk: Desk) -> None:
    photos = desk.projects.create("Rex", settings={"subject.class_word": "dog"}).photos
    for name, content in {"a.png": picture_bytes(), "b.png": picture_bytes(), "c.png": b"\x89PNG\r\n\x1a\n"}.items():
        (photos / name).write_bytes(content)
    (photos / "a.txt").write_text("{wrong} dog", encoding="utf-8")
    (photos / "notes.doc").write_text("x", encoding="utf-8")
    page = client.get("/api/v1/projects/rex/photos").json()
    cards = {card["name"]: card for card in page["photos"]}
    said = {name: " ".join(one["message"] for one in card["problems"]) for name, card in cards.items()}
    assert "unknown placeholder {wrong}" in said["a.png"]
    assert "is identical to a.png" in said["b.png"]
    assert "is not an image, or its header is damaged" in said["c.png"] and cards["c.png"]["width"] is None
    assert [one["file"] for one in page["problems"]] == ["notes.doc", ""]
    assert str(photos) not in str(page)
    assert cards["b.png"]["usual_caption"] == "photo of a sks dog"
    page_text = client.get("/projects/rex/photos").text
    assert str(photos) not in page_text.replace(page_text[page_text.find("<pre") :], "")
    missing = client.get("/api/v1/projects/rex/train").json()["missing"]
    assert any(line.startswith("c.png: is not an image") for line in missing)


def test_captions_are_written_and_removed_beside_the_photo(client: TestClient, desk: Desk) -> None:
    photos = desk.projects.create("Rex").photos
    (photos / "a.png").write_bytes(picture_bytes())
    (photos / "a.caption").write_text("old", encoding="utf-8")
    name = client.get("/api/v1/projects/rex/photos").json()["photos"][0]["id"]
    client.post(f"/projects/rex/photos/{name}/caption", data={"caption": "a {token} dog\n in snow "})
    assert (photos / "a.txt").read_text(encoding="utf-8") == "a {token} dog in snow\n" and not (photos / "a.caption").exists()
    client.post(f"/projects/rex/photos/{name}/caption", data={"caption": " "})
    assert [path.name for path in photos.iterdir()] == ["a.png"]
    client.post(f"/projects/rex/photos/{name}/remove")
    assert list(photos.iterdir()) == []
