"""Each photo's card shows what training sees of it, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dreambooth.data.photos import PhotoReport
from dreambooth.data.records import Mask, Photo, SubjectBox
from dreambooth.data.settings import Crop, ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import all_training_views
from dreambooth.web.desk import Desk
from dreambooth.web.photo_cards import photo_cards
from tests.unit.web.conftest import picture_bytes


@pytest.mark.parametrize("crop", ["center", "subject", "squash"])
@pytest.mark.parametrize("size", [(80, 64), (64, 81), (7, 6), (1001, 1000), (50, 50), (4000, 333)])
def test_the_frame_is_what_training_sees(tmp_path: Path, size: tuple[int, int], crop: Crop) -> None:
    box = SubjectBox(top=size[1] // 2, left=size[0] // 2, height=max(1, size[1] // 9), width=max(1, size[0] // 9))
    (tmp_path / "a.png").write_bytes(b"?")
    photo = Photo(tmp_path / "a.png", "", *size, caption=None, mask=Mask(None, "", box))
    settings = ViewSettings(crop=crop, flip_probability=0)
    (view,) = all_training_views(photo, settings, Size.square(64), 0, "instance")
    (card,) = photo_cards(tmp_path, PhotoReport((photo,), ()), caption="", crop=crop, resolution=64)
    assert card["frame"] == {"left": view.left, "top": view.top, "width": view.width, "height": view.height}
    assert (card["square"] is None) == (view.width != view.height)


@pytest.mark.parametrize("crop", ["random", "bucket", "typed wrong"])
def test_without_one_part_for_every_step_there_is_no_frame(tmp_path: Path, crop: str) -> None:
    (tmp_path / "a.png").write_bytes(b"?")
    report = PhotoReport((Photo(tmp_path / "a.png", "", 80, 64, caption=None),), ())
    assert photo_cards(tmp_path, report, caption="", crop=crop, resolution=64)[0]["frame"] is None


def test_a_mask_moves_the_frame_of_the_crop_around_the_subject(client: TestClient, desk: Desk) -> None:
    photos = desk.projects.create("Rex", settings={"views.crop": "subject", "views.resolution": "64"}).photos
    (photos / "a.png").write_bytes(picture_bytes(400, 300))
    mask = np.zeros((300, 400), np.uint8)
    mask[200:280, 10:90] = 255
    Image.fromarray(mask).save(photos / "a-mask.png")
    Image.new("RGB", (400, 300), "blue").save(photos / "b.png")
    card, other = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert card["frame"] == {"left": 0, "top": 190, "width": 100, "height": 100}
    assert (card["cropped_around"], other["cropped_around"]) == ("around the mask", "in the middle")
    assert "<span>Crop: around the mask</span>" in client.get("/projects/rex/photos").text


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
