"""No name leads out of the folder of projects."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.errors import RunError
from dreambooth.web.desk import Desk

NAMES = [
    *(
        "..",
        ".",
        "...",
        "%2e%2e",
        "%2e%2e%2fsecret",
        "..%2fsecret",
        "..%5csecret",
        "%2fetc",
        "%00",
        "demo%00",
        "DEMO",
        "demo%20",
    ),
    *(
        ".web",
        ".jobs",
        "demo%2f..%2f..%2fsecret",
        "~",
        "~root",
        "con",
        "C:",
        "demo%2fphotos",
        "de*o",
        "linked",
        "-demo",
        "a" * 80,
    ),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rest", ["/photos", "/take"])
def test_a_name_that_is_no_project_finds_nothing(client: TestClient, desk: Desk, name: str, rest: str, tmp_path: Path) -> None:
    desk.projects.create("Demo")
    secret = tmp_path / "secret"
    if not secret.exists():
        secret.mkdir()
        (secret / "project.json").write_text('{"title": "hidden words", "created": 0}', encoding="utf-8")
        (desk.projects.folder / "linked").symlink_to(secret)
    answer = client.get(f"/projects/{name}{rest}")
    assert answer.status_code in (307, 400, 404, 422)
    assert "hidden words" not in answer.text


@pytest.mark.parametrize("file", ["..%2f..%2fproject.json", "%2fetc%2fpasswd", "project.json", "x", "%2e%2e"])
@pytest.mark.parametrize("place", ["files", "photos", "class-images", "pictures/1/subject", "runs/1/previews/4"])
def test_a_file_is_named_by_its_id_alone(client: TestClient, trained: str, place: str, file: str) -> None:
    assert client.get(f"/projects/{trained}/{place}/{file}").status_code in (404, 422)


def test_a_photo_that_is_a_link_out_of_the_folder_is_not_shown(desk: Desk, client: TestClient, tmp_path: Path) -> None:
    from tests.unit.web.conftest import picture_bytes

    project = desk.projects.create("Rex")
    (tmp_path / "private.png").write_bytes(picture_bytes())
    (project.photos / "link.png").symlink_to(tmp_path / "private.png")
    cards = client.get("/api/v1/projects/rex/photos").json()["photos"]
    assert [client.get(f"/projects/rex/photos/{card['id']}").status_code for card in cards] == [404]


@pytest.mark.parametrize(
    ("title", "name"),
    [("Rex & co", "rex-co"), ("Übermut", "ubermut"), ("小狗", "project"), ("../../etc", "etc"), ("a\0b", "a-b")],
)
def test_a_title_makes_a_plain_name(desk: Desk, title: str, name: str) -> None:
    assert desk.projects.create(title).name == name
    assert desk.projects.create(title).name == f"{name}-2"
    assert desk.projects.named(name).notes.title == " ".join(title.split())


def test_a_project_needs_a_name(desk: Desk) -> None:
    with pytest.raises(RunError, match="the project has no name"):
        desk.projects.create(" \n")
