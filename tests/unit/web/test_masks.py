"""A mask comes from the brush or a file, is checked as training checks it, and stands beside its photo."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dreambooth.web import screen_masks
from dreambooth.web.desk import Desk
from tests.unit.web.conftest import picture_bytes


@pytest.fixture
def photos(desk: Desk) -> Path:
    folder = desk.projects.create("Rex").photos
    (folder / "rex 1.png").write_bytes(picture_bytes(80, 64))
    return folder


@pytest.fixture
def address(client: TestClient, photos: Path) -> str:
    (card,) = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert not card["has_mask"]
    return f"/projects/rex/photos/{card['id']}"


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def painted(height: int = 64, width: int = 80) -> np.ndarray:  # type: ignore[type-arg]
    """White in the upper left quarter."""
    pixels = np.zeros((height, width))
    pixels[: height // 2, : width // 2] = 255
    return pixels


def post(client: TestClient, address: str, content: bytes) -> list[str]:
    """What is wrong with a mask that is sent; empty when it was kept."""
    answer = client.post(f"/api/v1{address}/mask", files={"files": ("m.png", content)})
    problems: list[str] = answer.json().get("problems", [])
    assert answer.status_code == (422 if problems else 200)
    return problems


def opened(client: TestClient, address: str) -> np.ndarray:  # type: ignore[type-arg]
    answer = client.get(address)
    assert answer.headers["content-type"] == "image/png"
    return np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def test_what_is_painted_stands_beside_the_photo_and_is_shown_over_it(client: TestClient, photos: Path, address: str) -> None:
    assert client.get(f"{address}/mask").status_code == 404
    assert post(client, address, png(painted())) == []
    kept = Image.open(photos / "rex 1-mask.png")
    assert (kept.mode, kept.size) == ("L", (80, 64)) and np.array_equal(np.array(kept), painted())
    (card,) = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert card["has_mask"] and "Change the mask" in client.get("/projects/rex/photos").text
    shade, paint = opened(client, f"{address}/mask"), opened(client, f"{address}/mask?view=paint")
    assert shade[0, 0].tolist() == [0, 0, 0, 0] and shade[-1, -1].tolist() == [0, 0, 0, 166]
    assert paint[0, 0].tolist() == [255] * 4 and paint[-1, -1, 3] == 0
    client.post(f"{address}/mask/remove")
    assert [path.name for path in photos.iterdir()] == ["rex 1.png"]


def test_transparency_counts_and_an_earlier_mask_of_another_name_is_replaced(
    client: TestClient, photos: Path, address: str
) -> None:
    (photos / "rex 1-masklabel.png").write_bytes(png(255 - painted()))
    white = np.full((64, 80, 4), 255)
    white[..., 3] = painted()
    assert post(client, address, png(white)) == []
    assert sorted(path.name for path in photos.iterdir()) == ["rex 1-mask.png", "rex 1.png"]
    assert np.array_equal(np.array(Image.open(photos / "rex 1-mask.png")), painted())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (png(painted(64, 64)), "is 64 x 64 pixels, and its photo rex 1.png is 80 x 64"),
        (png(painted())[:70], "cannot be decoded completely"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        (b"", "is empty"),
        (png(painted() * 0), "the mask marks nothing"),
    ],
)
def test_what_is_no_mask_of_this_photo_changes_nothing(
    client: TestClient, photos: Path, address: str, content: bytes, why: str
) -> None:
    (photos / "rex 1-mask.png").write_bytes(png(painted()))
    (problem,) = post(client, address, content)
    assert why in problem and (photos / "rex 1-mask.png").read_bytes() == png(painted())
    assert len(list(photos.iterdir())) == 2


def test_masks_are_bounded_as_photos_are(
    client: TestClient, photos: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post(f"/api/v1{address}/mask", json={}).json()["problems"] == ["no mask was sent"]
    with monkeypatch.context() as small:
        small.setattr(screen_masks, "MOST_PHOTO_BYTES", 10)
        assert "larger than" in post(client, address, png(painted()))[0]
    monkeypatch.setattr(screen_masks, "free_disk_bytes", lambda folder: 1000)
    assert "no room left" in post(client, address, png(painted()))[0]
    assert [path.name for path in photos.iterdir()] == ["rex 1.png"]


def test_a_photo_goes_with_its_mask(client: TestClient, photos: Path, address: str) -> None:
    post(client, address, png(painted()))
    client.post(f"{address}/remove")
    assert list(photos.iterdir()) == []


def test_a_mask_that_is_a_link_out_of_the_folder_is_not_shown(
    client: TestClient, photos: Path, address: str, tmp_path: Path
) -> None:
    (tmp_path / "private.png").write_bytes(png(painted()))
    (photos / "rex 1-mask.png").symlink_to(tmp_path / "private.png")
    assert client.get(f"{address}/mask").status_code == 404
    assert post(client, address, png(255 - painted())) == []
    assert (tmp_path / "private.png").read_bytes() == png(painted())


@pytest.mark.parametrize("size", [(80, 64), (4000, 3000), (6000, 100), (300, 9000), (1, 1)])
def test_the_canvas_has_the_proportions_of_the_photo(client: TestClient, desk: Desk, size: tuple[int, int]) -> None:
    from dreambooth.data.records import Photo

    width, height = screen_masks._canvas_size(Photo(Path("a"), "", *size, caption=None))
    assert abs(width * size[1] / (height * size[0]) - 1) < 0.01
    assert max(width, height) <= max(1024, 256 * max(size) / min(size) + 1)


@pytest.mark.parametrize("photo", ["x", "..", "%2e%2e", "rex%201.png"])
def test_a_photo_is_named_by_its_id(client: TestClient, photos: Path, photo: str) -> None:
    for path in ("draw", "mask"):
        assert client.get(f"/projects/rex/photos/{photo}/{path}").status_code == 404
    answer = client.post(f"/projects/rex/photos/{photo}/mask", files={"files": ("m.png", png(painted()))})
    assert answer.status_code in (404, 405) and len(list(photos.iterdir())) == 1


def test_a_mask_for_a_photo_or_a_project_that_does_not_exist_is_not_found(client: TestClient, photos: Path) -> None:
    files = {"files": ("m.png", png(painted()))}
    answer = client.post("/api/v1/projects/rex/photos/0123456789abcdef/mask", files=files)
    assert answer.status_code == 404 and answer.json()["problems"] == ["no such photo"] and "id" in answer.json()["hint"]
    assert client.post("/api/v1/projects/max/photos/0123456789abcdef/mask", files=files).status_code == 404


def test_a_damaged_mask_is_told_at_its_photo_unless_masks_are_off(client: TestClient, desk: Desk, photos: Path) -> None:
    (photos / "rex 1-mask.png").write_bytes(png(painted(64, 64)))
    (card,) = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert not card["has_mask"] and "is 64 x 64 pixels" in " ".join(one["message"] for one in card["problems"])
    desk.projects.change(desk.projects.named("rex"), lambda notes: {"settings": {"subject.masks": False}})
    (card,) = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert "is 64 x 64 pixels" not in str(card["problems"])
