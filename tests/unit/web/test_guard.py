"""Nobody gets anything without the token, under another name, or from another site."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.web.app import ROUTES
from dreambooth.web.guard import API, HEADERS, MOST_BODY_BYTES, access_token

TOKEN = "k" * 43
OTHERS = [("GET", "/static/style.css"), ("GET", "/projects/{project}"), ("GET", "/projects/{project}/live")]
ALL = [(method, prefix + path) for method, path, _ in ROUTES for prefix in ("", API)] + OTHERS


def _filled(path: str) -> str:
    return re.sub(r"\{\w+:int\}", "1", re.sub(r"\{project\}", "demo", path)).replace("{photo}", "x").replace("{file}", "x")


def test_no_route_answers_without_the_token(stranger: TestClient, trained: str) -> None:
    del stranger.headers["authorization"]
    routes = {(method, route.path) for route in stranger.app.routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert routes == {*ALL, ("GET", "/static/{name}"), ("GET", "/favicon.ico")} - {("GET", "/static/style.css")}
    statuses = {(method, path): stranger.request(method, _filled(path)).status_code for method, path in ALL}
    assert len(statuses) > 65
    assert set(statuses.values()) == {401}


def test_a_wrong_token_is_refused_and_too_many_are_not_even_looked_at(
    stranger: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreambooth.web.guard.time.monotonic", lambda: 1000.0)
    statuses = [stranger.get("/", params={"token": f"wrong{number}"}).status_code for number in range(8)]
    assert statuses == [401] * 5 + [429] * 3


def test_the_link_gives_a_strict_cookie_that_opens_the_pages(stranger: TestClient) -> None:
    answer = stranger.get("/", params={"token": TOKEN})
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/", "dreambooth_7860="))
    assert TOKEN not in answer.text
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[::1", "192.168.0.9"])
def test_other_names_for_this_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:7861"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:7860"},
        {"sec-fetch-site": "none"},
    ],
)
def test_a_post_that_our_page_did_not_send_changes_nothing(
    stranger: TestClient, tmp_path: Path, headers: dict[str, str]
) -> None:
    stranger.get("/", params={"token": TOKEN})
    assert stranger.post("/projects", data={"title": "Rex"}, headers=headers).status_code == 403
    assert not (tmp_path / "projects").exists()


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://127.0.0.1:7860"}])
def test_a_post_of_our_page_passes(stranger: TestClient, headers: dict[str, str]) -> None:
    stranger.get("/", params={"token": TOKEN})
    assert stranger.post("/projects", data={"title": "Rex"}, headers=headers).status_code == 303


def test_nothing_is_changed_by_get(client: TestClient) -> None:
    assert {method for method, _, handler in ROUTES if handler.__name__ in ("create", "start", "stop_job", "save")} == {"POST"}
    assert client.get("/demo").status_code == 405


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/static/page.js"),
        client.get("/nothing"),
        client.get("/", headers={"host": "x"}),
    ):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_no_page_holds_a_style_or_a_script_of_its_own() -> None:
    folder = Path(__file__).parents[3] / "src" / "dreambooth" / "web" / "templates"
    templates = list(folder.glob("*.html"))
    assert len(templates) > 10
    inline = re.compile(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=\"/static/page.js\")|https?://")
    assert [path.name for path in templates if inline.search(path.read_text(encoding="utf-8"))] == []


def test_a_large_body_is_given_up_while_it_is_read(client: TestClient) -> None:
    read = []

    def body():  # type: ignore[no-untyped-def]
        for _ in range(200):
            read.append(1)
            yield b"x" * (MOST_BODY_BYTES // 10)

    headers = {"content-type": "application/json"}
    assert client.post(f"{API}/projects", content=body(), headers=headers).status_code == 413


def test_the_token_outlives_the_server_and_is_its_owners_alone(tmp_path: Path) -> None:
    token = access_token(tmp_path / "web" / "token")
    assert len(token) >= 43
    assert access_token(tmp_path / "web" / "token") == token
    assert os.name != "posix" or stat.S_IMODE((tmp_path / "web" / "token").stat().st_mode) == 0o600


def test_a_cut_token_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short", encoding="ascii")
    assert len(access_token(tmp_path / "token")) >= 43
