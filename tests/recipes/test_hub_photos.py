"""`--photos hf://datasets/...` with the hub's own library, against a server on this machine that stands for the hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMIT = "c0ffee" * 6 + "c0ff"


def photo(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


FILES = {
    "README.md": b"# Rex",
    "train/metadata.jsonl": b'{"file_name": "0.png", "text": "a {token} dog on a sofa"}\n',
    **{f"train/{seed}.png": photo(seed) for seed in range(3)},
}


@contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with the dataset me/rex, and the files that were sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path, _, _ = self.path.partition("?")
            prefix = f"/datasets/me/rex/resolve/{COMMIT}/"
            if path.startswith("/api/datasets/me/rex/tree/"):
                self._tell([{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()])
            elif path.startswith("/api/datasets/me/rex"):
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                self._tell({"_id": "1", "id": "me/rex", "sha": COMMIT, "siblings": siblings, "tags": []})
            elif (name := path.removeprefix(prefix)) in files and path.startswith(prefix):
                if self.command == "GET":
                    sent.append(name)
                digest = hashlib.sha1(files[name], usedforsecurity=False).hexdigest()
                self._answer(files[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'})
            else:
                self.send_error(404)

        def _tell(self, value: object) -> None:
            self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_dataset_is_checked_like_a_folder_and_read_again_without_a_connection(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreambooth", "photos", "hf://datasets/me/rex/train", "--class-word", "dog"]
    command += ["--resolution", "64", "--output", str(tmp_path / "check")]

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env = {**kept, "HF_HOME": str(tmp_path / "cache"), "COLUMNS": "200", **environment}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env, cwd=tmp_path)

    with hub(FILES) as (address, sent):
        first = run(HF_ENDPOINT=address)
    assert first.returncode == 0, first.stderr
    assert sorted(sent) == ["train/0.png", "train/1.png", "train/2.png", "train/metadata.jsonl"]
    assert "Downloading hf://datasets/me/rex/train from the Hugging Face hub: 4 files, 0.00 GB" in first.stderr
    assert "3 photos can be used at 64 px" in first.stdout
    assert "a sks dog on a sofa" in (tmp_path / "check" / "photos.html").read_text(encoding="utf-8")
    again = run(HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "3 photos can be used at 64 px" in again.stdout, again.stderr
    assert "Downloading" not in again.stderr
