"""Large files to and from the machine."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.notebook import downloads
from dreambooth.notebook.downloads import ask_for_hub_token, copy_to, fetch, offer_download


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/short.ckpt":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "model v1.safetensors").write_bytes(b"weights")
    (folder / "other").mkdir()
    (folder / "other" / "model v1.safetensors").write_bytes(b"other weights")
    (folder / "page.html").write_text("<p>Sign in</p>", encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_a_file_is_downloaded_once(server: str, tmp_path: Path) -> None:
    path = fetch(f"{server}/model%20v1.safetensors?download=true", tmp_path / "models")
    assert path.parent.parent == tmp_path / "models" and path.name.startswith("model-v1-")
    assert path.read_bytes() == b"weights"
    path.write_bytes(b"kept")
    assert fetch(f"{server}/model%20v1.safetensors", tmp_path / "models").read_bytes() == b"kept"
    other = fetch(f"{server}/other/model%20v1.safetensors", tmp_path / "models")
    assert (other.name, other.read_bytes()) == (path.name, b"other weights"), "another address is another file"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.html", "returned a web page, not a file"),
        ("missing.ckpt", "could not be downloaded.*404"),
        ("short.ckpt", "the download stopped after 4 of 100 bytes"),
    ],
)
def test_what_is_no_whole_file_leaves_nothing(server: str, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        fetch(f"{server}/{name}", tmp_path / "models")
    assert [path for path in (tmp_path / "models").rglob("*") if path.is_file()] == []


def test_a_token_that_is_typed_is_set_and_forgotten_by_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(downloads, "show", shown.append)
    monkeypatch.setenv("HF_TOKEN", "")
    ask_for_hub_token()
    assert "No hub token is set" in shown[0]
    field, button = shown[1].children
    field.value = " hf_secret "
    button.click()
    assert os.environ["HF_TOKEN"] == "hf_secret"
    assert field.value == ""


def test_a_download_is_a_link_below_the_notebooks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(downloads, "show", shown.append)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model.safetensors").write_bytes(b"x" * 2000000)
    monkeypatch.chdir(tmp_path)
    offer_download(tmp_path / "runs" / "model.safetensors")
    assert "0.00 GB" in shown[0] and "href='runs/model.safetensors'" in shown[1]._repr_html_()
    monkeypatch.chdir(tmp_path / "runs")
    (tmp_path / "other").write_bytes(b"x")
    offer_download(tmp_path / "other")
    assert any("the link may not work" in str(thing) for thing in shown)


def test_a_copy_is_complete_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert copy_to(tmp_path / "model.safetensors", tmp_path / "drive" / "rex").read_bytes() == b"weights"
