"""The way from photos to the file, by the test client: what each screen shows and what each button does."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import SettingsError
from dreambooth.web.desk import Desk
from dreambooth.web.screen_train import live_parts
from dreambooth.web.screens import STEPS
from dreambooth.web.serve import tunnels, web
from dreambooth.web.settings import WebSettings
from dreambooth.web.told import told_records


def test_the_first_page_offers_the_demo_which_is_one_click(client: TestClient, desk: Desk) -> None:
    assert "Try the demo" in client.get("/").text
    assert client.post("/demo").headers["location"] == "/projects/demo/train"
    jobs = desk.queue.store.all()
    assert [(job.kind, job.typed.split(" --")[0]) for job in jobs] == [
        ("photos", "dreambooth toybox photos"),
        ("train", "dreambooth train"),
    ]
    assert "--preset=toybox" in jobs[1].command and "Demo" in client.get("/").text


@pytest.mark.parametrize("screen", [name for name, _ in STEPS] + ["settings"])
def test_every_screen_of_a_trained_project_answers_in_both_forms(client: TestClient, trained: str, screen: str) -> None:
    page, values = client.get(f"/projects/{trained}/{screen}"), client.get(f"/api/v1/projects/{trained}/{screen}")
    assert page.status_code == values.status_code == 200
    assert page.text.count("<h1") == 1 and values.json()["screen"] == screen
    assert (screen == "settings") or 'aria-current="page"' in page.text


def test_screens_without_a_model_say_why_they_are_shut(client: TestClient, desk: Desk) -> None:
    desk.projects.create("Rex")
    assert client.get("/projects/rex/photos").text.count("Train first: there is no model yet.") >= 3
    assert client.get("/projects/rex/take").status_code == 422


def test_nothing_starts_before_everything_is_right_and_all_of_it_is_told(client: TestClient, desk: Desk) -> None:
    desk.projects.create("Rex")
    problems = client.post("/api/v1/projects/rex/train").json()["problems"]
    assert any(one.startswith("--model is missing") for one in problems)
    assert any(one.startswith("--class-word is missing") for one in problems)
    assert any(one.startswith("Photos: contains no images") for one in problems)
    assert desk.queue.store.all() == []


def test_two_pages_start_one_training(client: TestClient, trained: str) -> None:
    answer = client.post(f"/api/v1/projects/{trained}/train")
    assert answer.status_code == 422 and "is being trained already" in answer.json()["problems"][0]


def test_the_training_shows_losses_previews_and_time(client: TestClient, trained: str, desk: Desk) -> None:
    values = client.get(f"/api/v1/projects/{trained}/train").json()
    assert (values["step"], values["steps"]) == (4, 4)
    assert values["validation"] == {"photos": [[4, 0.2]], "class": []}
    urls = [one["url"] for row in values["previews"] for one in row["pictures"]]
    assert [client.get(url).headers["content-type"] for url in urls] == ["image/png"] * 2
    parts = live_parts(desk, desk.projects.named(trained))
    assert set(parts) == {"live-state", "live-actions", "live-losses", "live-previews"}
    page = client.get(f"/projects/{trained}/train").text
    assert all(f'id="{name}"' in page for name in parts)
    assert "<svg" in parts["live-losses"] and "style=" not in parts["live-losses"]


def test_a_model_is_chosen_compared_tried_and_taken(client: TestClient, trained: str, desk: Desk) -> None:
    base = f"/projects/{trained}"
    assert [row["step"] for row in client.get(f"/api/v1{base}/choose").json()["rows"]] == [2, 4]
    assert "Side by side" in client.get(f"{base}/choose?left=2&right=4").text
    assert client.post(f"/api/v1{base}/choose", json={"run": "1", "step": "3"}).status_code == 422
    client.post(f"{base}/choose", data={"run": "1", "step": "2"})
    client.post(f"{base}/try", data={"prompt": "a sks vase\n\na boat", "num_images": "2", "with_base": "true", "seed": "5"})
    ours, base_job = desk.queue.store.of(trained, ("pictures",))
    assert "models/step-000002.safetensors" in ours.typed and "--prompt 'a sks vase' 'a boat'" in ours.typed
    assert "--model=toybox" in base_job.command and base_job.typed.count("--seed=5") == ours.typed.count("--seed=5") == 1
    taken = client.get(f"/api/v1{base}/take").json()
    model = taken["files"][0]
    whole = client.get(model["url"])
    assert len(whole.content) == model["bytes"] and "attachment" in whole.headers["content-disposition"]
    part = client.get(model["url"], headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    client.post(f"{base}/take/convert", data={"format": "ckpt", "precision": "float16"})
    assert desk.queue.store.all()[-1].typed.endswith("demo-run1-step2-float16.ckpt --dtype=float16")
    assert client.post(f"/api/v1{base}/take/convert", json={"format": "../x", "precision": "float16"}).status_code == 422


def test_wrong_values_for_pictures_are_told_in_the_words_of_the_command_line(
    client: TestClient, trained: str, desk: Desk
) -> None:
    answer = client.post(f"/api/v1/projects/{trained}/try", json={"prompt": "a", "num_images": "0"})
    assert answer.json()["problems"] == ["--num-images is '0': expected at least 1"]
    assert desk.queue.store.of(trained, ("pictures",)) == []


def test_earlier_steps_of_a_lora_are_applied_to_its_base(client: TestClient, trained: str, desk: Desk) -> None:
    config = desk.projects.named(trained).runs / "1" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "trainee: {trainee: lora}\n", encoding="utf-8")
    client.post(f"/projects/{trained}/choose", data={"run": "1", "step": "2"})
    client.post(f"/projects/{trained}/try", data={"prompt": "a"})
    command = desk.queue.store.all()[-1].command
    assert "--model=toybox" in command and command[command.index("--lora") + 1].endswith("step-000002.safetensors")


def test_the_words_of_a_verb_are_read_from_its_lines() -> None:
    lines = ["noise", '{"event": "say", "text": "a"}', '{"event": "progress"}', "[1]", '{"event": "table", "rows": []}']
    assert [record["event"] for record in told_records(lines)] == ["say", "table"]


def test_the_way_from_another_machine_is_told_where_it_is_known() -> None:
    assert tunnels(7860, "T", {}) == []
    (line,) = tunnels(7860, "T", {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22", "USER": "me"})
    assert line.endswith("ssh -L 7860:127.0.0.1:7860 me@10.0.0.2")
    assert "https://pod-7860.proxy.runpod.net/?token=T" in tunnels(7860, "T", {"RUNPOD_POD_ID": "pod"})[0]
    assert "serve_kernel_port_as_window(7860" in tunnels(7860, "T", {"COLAB_RELEASE_TAG": "1"})[0]


def test_a_damaged_project_is_told_by_name(client: TestClient, desk: Desk) -> None:
    project = desk.projects.create("Rex")
    (project.path / "project.json").write_text("{", encoding="utf-8")
    answer = client.get("/api/v1/projects/rex/photos")
    assert answer.status_code == 422 and answer.json()["problems"][0].startswith("rex: project.json cannot be read")


def test_many_projects_are_listed(client: TestClient, desk: Desk) -> None:
    for number in range(60):
        project = desk.projects.create(f"Subject {number}")
        (project.runs / "1").mkdir(parents=True)
    assert len(client.get("/api/v1/").json()["projects"]) == 60


def test_the_server_starts_without_torch() -> None:
    code = "import dreambooth.web.app, sys; raise SystemExit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_all_files_come_in_one_zip_that_is_never_on_the_disk(client: TestClient, trained: str, desk: Desk) -> None:
    project = desk.projects.named(trained)
    project.exports.mkdir()
    (project.exports / "half.ckpt").write_bytes(b"?" * 3_000_000)
    answer = client.get(f"/projects/{trained}/files.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="demo.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["runs/1/model.safetensors", "exports/half.ckpt", "runs/1/config.yaml"]
        assert archive.read("exports/half.ckpt") == b"?" * 3_000_000
    assert not list(project.path.rglob("*.zip"))


def test_what_does_not_exist_is_told_in_the_form_of_the_path(client: TestClient) -> None:
    page, missing, method = client.get("/nowhere"), client.get("/api/v1/nowhere"), client.put("/api/v1/projects")
    assert (page.status_code, missing.status_code, method.status_code) == (404, 404, 405)
    assert "<h1>This was not done</h1>" in page.text
    assert missing.json() == {"problems": ["GET /api/v1/nowhere: Not Found"], "hint": ""}
    assert method.json() == {"problems": ["PUT /api/v1/projects: Method Not Allowed"], "hint": ""}


@pytest.mark.parametrize("folder", ["one.yaml", "one.yaml/projects"])
def test_a_file_is_no_folder_of_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr("dreambooth.web.serve._serve", lambda *_: pytest.fail("a server was started"))
    (tmp_path / "one.yaml").touch()
    with pytest.raises(SettingsError, match=r"one\.yaml is a file, not a folder\nChoose another --folder"):
        web(WebSettings(folder=tmp_path / folder), SilentDisplay())
