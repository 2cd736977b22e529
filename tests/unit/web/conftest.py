"""A server's application without a server, and a project that looks as if it had been trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from dreambooth.web.app import application
from dreambooth.web.desk import Desk
from dreambooth.web.job_queue import JobQueue

TOKEN = "k" * 43
ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk whose queue starts nothing."""
    monkeypatch.setattr(JobQueue, "tick", lambda self: None)
    return Desk.at(tmp_path / "projects")


@pytest.fixture
def stranger(desk: Desk) -> TestClient:
    """A client without the token."""
    return TestClient(application(desk, token=TOKEN), base_url=ADDRESS, follow_redirects=False)


@pytest.fixture
def client(stranger: TestClient) -> TestClient:
    """A program with the token."""
    stranger.headers["authorization"] = f"Bearer {TOKEN}"
    return stranger


@pytest.fixture
def trained(client: TestClient, desk: Desk) -> str:
    """The name of a project with a finished run of 4 steps."""
    client.post("/demo")
    write_run(desk.projects.named("demo").runs / "1")
    return "demo"


def write_run(run: Path) -> None:
    """The files of a finished run of 4 steps with a preview and a model every 2 steps."""
    for step in (2, 4):
        _picture(run / "previews" / f"step-{step:06d}" / "00-a.png", step)
        path = run / "model.safetensors" if step == 4 else run / "models" / "step-000002.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"a": np.arange(100, dtype=np.float32)}, path, metadata={"global_step": str(step)})
    config = "base: {model: toybox}\nsubject: {photos: a, class_word: vase, token: sks}\nloop: {steps: 4}\n"
    (run / "config.yaml").write_text(config + "output: {preview_guidance_scale: 3.0}\n", encoding="utf-8")
    events = [{"event": "step", "step": step, "time": float(step), "instance_loss": 0.1 * step} for step in (1, 2, 3, 4)]
    events += [{"event": "validation", "step": 4, "time": 4.5, "instance_loss": 0.2}]
    events += [{"event": "preview", "step": step, "time": 5.0} for step in (2, 4)]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")


def picture_bytes(width: int = 80, height: int = 64, *, seed: int = 0, form: str = "PNG") -> bytes:
    """A picture of noise."""
    import io

    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True)
    chunks = PngInfo()
    chunks.add_text("dreambooth", json.dumps({"prompt": "photo of a sks vase", "seed": seed, "sampler": "ddim"}))
    Image.fromarray(np.full((8, 8, 3), 40 * seed, np.uint8)).save(path, pnginfo=chunks)
