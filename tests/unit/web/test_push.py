"""A run is published only after its files were shown and agreed to, and no token is stored, logged or shown on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dreambooth.cli.main import main
from dreambooth.recipes import push as recipe
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord

TOKEN = "hf_" + "q" * 34


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def run_newest(desk: Desk) -> JobRecord:
    """Do what the newest job would do, in this process."""
    job = desk.queue.store.all()[-1]
    code = main(list(job.command[job.command.index("push") :]))
    ended = replace(job, state="finished" if code == 0 else "failed", started=time.time(), ended=time.time() + 1)
    desk.queue.store.write(ended)
    return ended


def shown(client: TestClient, project: str) -> dict[str, Any]:
    values: dict[str, Any] = client.get(f"/api/v1/projects/{project}/take").json()["push"]
    return values


def test_files_are_shown_agreed_to_and_published_as_they_were_shown(
    client: TestClient, trained: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def upload(files: Mapping[str, object], repo: str, **more: Any) -> str:
        given.update(more, repo=repo, files=list(files))
        return "the-address"

    monkeypatch.setattr(recipe, "upload", upload)
    base = f"/projects/{trained}/take/push"
    assert shown(client, trained)["is_logged_in"] and shown(client, trained)["check"] is None
    client.post(base, data={"repo": "me/vase", "license": "mit"})
    assert run_newest(desk).kind == "push-check" and given == {}
    values = shown(client, trained)
    names = ["README.md", "model.safetensors", "pictures/00-a.png", "settings.yaml"]
    assert [one["name"] for one in values["files"]] == names and "license: mit" in values["card"]
    page = client.get(f"/projects/{trained}/take").text
    assert "Publish them in me/vase, a private repository." in page
    checked = str(values["check"]["number"])
    for wrong in (
        {"checked": checked},
        {"checked": checked, "agreed": "no"},
        {"agreed": "true"},
        {"checked": "1", "agreed": "true"},
    ):
        assert client.post(f"/api/v1{base}/publish", json=wrong).json()["problems"][0].startswith("nothing was")
    client.post(f"{base}/publish", data={"checked": checked, "agreed": "true"})
    job = desk.queue.store.all()[-1]
    assert (job.kind, job.command[3:]) == (
        "push",
        ("push", str(desk.projects.named(trained).runs / "1"), "--repo=me/vase", "--license=mit"),
    )
    assert job.typed == values["command"] and job.typed.endswith("--repo=me/vase --license=mit")
    again = client.post(f"/api/v1{base}/publish", json={"checked": checked, "agreed": "true"})
    assert "already" in again.json()["problems"][0]
    run_newest(desk)
    assert (given["repo"], given["private"], sorted(given["files"])) == ("me/vase", True, names)


def test_public_is_a_choice_of_its_own(client: TestClient, trained: str, desk: Desk) -> None:
    client.post(f"/projects/{trained}/take/push", data={"repo": "me/vase", "public": "true"})
    run_newest(desk)
    values = shown(client, trained)
    assert values["is_public"] and values["command"].endswith("--repo=me/vase --no-private")
    assert "which everyone can see" in client.get(f"/projects/{trained}/take").text
    client.post(f"/projects/{trained}/take/push", data={"repo": "me/vase"})
    run_newest(desk)
    assert not shown(client, trained)["is_public"]
    assert [path.name for path in desk.projects.named(trained).exports.iterdir()] == ["push-2"]


def test_a_model_that_changed_since_is_shown_once_more(client: TestClient, trained: str, desk: Desk) -> None:
    client.post(f"/projects/{trained}/take/push", data={"repo": "me/vase"})
    check = run_newest(desk)
    desk.queue.store.write(replace(check, ended=1.0))
    wanted = {"checked": str(check.number), "agreed": "true"}
    answer = client.post(f"/api/v1/projects/{trained}/take/push/publish", json=wanted)
    assert answer.json()["problems"] == ["the model has changed since it was shown"]


@pytest.mark.parametrize("repo", ["", "vase", "../x", "me/vase; rm -rf /", "--repo=x/y", "me/", "https://me/vase"])
def test_a_repository_is_owner_and_name(client: TestClient, trained: str, desk: Desk, repo: str) -> None:
    assert client.post(f"/api/v1/projects/{trained}/take/push", json={"repo": repo}).status_code == 422
    assert desk.queue.store.of(trained, ("push-check",)) == []


def test_the_token_is_nowhere(client: TestClient, trained: str, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "upload", lambda *_, **__: "the-address")
    client.post(f"/projects/{trained}/take/push", data={"repo": "me/vase"})
    check = run_newest(desk)
    client.post(f"/projects/{trained}/take/push/publish", data={"checked": str(check.number), "agreed": "true"})
    job = run_newest(desk)
    pages = [f"/projects/{trained}/take", f"/jobs/{check.number}", f"/jobs/{job.number}"]
    assert all(TOKEN not in client.get(prefix + page).text for page in pages for prefix in ("", "/api/v1"))
    files = [path for path in desk.projects.folder.rglob("*") if path.is_file()]
    assert len(files) > 12 and not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_a_machine_without_a_login_says_how_to_log_in(
    client: TestClient, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert not shown(client, trained)["is_logged_in"]
    assert "hf auth login" in client.get(f"/projects/{trained}/take").text
