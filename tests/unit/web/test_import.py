"""Runs of the command line come into a project by their id alone, from allowed places, and large files only by agreement."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.errors import RunError
from dreambooth.files import _MARK, write_json
from dreambooth.runs.alive import start_time
from dreambooth.web import run_imports, screen_import
from dreambooth.web.desk import Desk
from dreambooth.web.forms import checked_settings
from dreambooth.web.run_imports import bring_run, found_runs
from tests.unit.web.conftest import picture_bytes, write_run


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    """A desk that may look into a folder with a run, something else, and links."""
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    write_run(runs / "pets" / "rex")
    (runs / "notes").mkdir()
    (runs / "notes" / "config.yaml").write_text("a: 1", encoding="utf-8")
    write_run(elsewhere)
    (runs / "linked").symlink_to(elsewhere)
    return Desk.at(desk.projects.folder, None, runs)


def _id(client: TestClient) -> str:
    (run,) = client.get("/api/v1/import").json()["runs"]
    assert run["name"] == "pets/rex" and run["is_linked"] and run["bytes"] > 800
    return str(run["id"])


def _run_it(desk: Desk) -> int:
    command = desk.queue.store.all()[-1].command
    assert command[1:3] == ("-m", "dreambooth.web.run_imports")
    return run_imports.main(command[3:])


def test_a_run_becomes_a_project_with_its_settings(client: TestClient, desk: Desk) -> None:
    answer = client.post("/api/v1/import", json={"run": _id(client), "title": "My Rex"})
    assert answer.json()["project"] == "my-rex"
    (job,) = desk.queue.store.of("my-rex", ("import",))
    assert job.typed.startswith("cp -r ") and job.typed.endswith("/my-rex/runs/1")
    assert _run_it(desk) == 0
    project = desk.projects.named("my-rex")
    assert project.notes.settings == {
        "base.model": "toybox",
        "subject.class_word": "vase",
        "loop.steps": "4",
        "output.preview_guidance_scale": "3",
    }
    settings, problems = checked_settings(project)
    assert problems == [] and settings is not None and settings.loop.steps == 4
    rows = client.get("/api/v1/projects/my-rex/choose").json()["rows"]
    assert [row["step"] for row in rows] == [2, 4] and client.get(rows[0]["pictures"][0]["url"]).status_code == 200
    assert client.get("/api/v1/").json()["projects"][0]["state"] == "imported"
    state = client.get("/api/v1/projects/my-rex/train").json()
    assert (state["step"], state["run"], state["job"], state["can_resume"]) == (4, "1", None, False)


def test_a_run_of_several_subjects_becomes_no_project_of_one(
    client: TestClient, trained: str, desk: Desk, tmp_path: Path
) -> None:
    run, config = {"run": _id(client)}, tmp_path / "runs" / "pets" / "rex" / "config.yaml"
    listed = (
        "subject:\n  subjects:\n  - {photos: a, token: sks, class_word: vase}\n  - {photos: b, token: ohwx, class_word: dog}\n"
    )
    config.write_text(f"base: {{model: toybox}}\n{listed}", encoding="utf-8")
    refused = client.post("/api/v1/import", json=run)
    assert refused.status_code == 422 and "Import it into an existing project" in refused.json()["hint"]
    (problem,) = refused.json()["problems"]
    assert problem.startswith("pets/rex: was trained with a list of 2 subjects, and a project has one subject")
    assert [project.name for project in desk.projects.all()] == [trained]
    for job in desk.queue.store.all():
        desk.queue.store.remove(job)
    assert client.post("/api/v1/import", json={**run, "project": trained}).json()["project"] == trained


def test_a_run_joins_a_project_whose_own_training_is_not_mistaken_for_it(client: TestClient, trained: str, desk: Desk) -> None:
    run = {"run": _id(client), "project": trained}
    busy = client.post("/api/v1/import", json=run)
    assert busy.json()["problems"] == ["a run of this project is being trained or imported"]
    for job in desk.queue.store.all():
        desk.queue.store.remove(job)
    client.post("/api/v1/import", json=run)
    assert client.post(f"/api/v1/projects/{trained}/train").json()["problems"] == ["a run is being imported into this project"]
    assert _run_it(desk) == 0
    assert client.get(f"/api/v1/projects/{trained}/train").json()["run"] == "2"


def test_models_are_linked_and_what_may_grow_is_copied(desk: Desk, tmp_path: Path) -> None:
    source, destination = tmp_path / "runs" / "pets" / "rex", tmp_path / "projects" / "x" / "runs" / "1"
    (source / f".model{_MARK}1").write_text("half", encoding="utf-8")
    bring_run(source, destination, may_copy=False)
    for name in ("model.safetensors", "models/step-000002.safetensors", "previews/step-000002/00-a.png"):
        assert (destination / name).stat().st_ino == (source / name).stat().st_ino
    with (destination / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write("more\n")
    assert "more" not in (source / "events.jsonl").read_text(encoding="utf-8")
    assert not list(destination.glob(".*"))
    with pytest.raises(FileExistsError):
        bring_run(source, destination, may_copy=False)


def test_nothing_from_elsewhere_comes_with_a_run(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hidden words", encoding="utf-8")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "own.png").write_bytes(picture_bytes())
    source, destination = tmp_path / "runs" / "pets" / "rex", tmp_path / "projects" / "x" / "runs" / "1"
    (source / "previews" / "step-000002" / "secret.png").symlink_to(tmp_path / "secret.txt")
    (source / "previews" / "step-000003").symlink_to(tmp_path / "private")
    bring_run(source, destination, may_copy=True)
    brought = sorted(path.relative_to(destination).as_posix() for path in destination.rglob("*") if path.is_file())
    assert len(brought) == 6 and not any("secret" in name or "own" in name for name in brought)


@pytest.mark.parametrize("run", ["", "..", "../elsewhere", "/etc", "elsewhere", "linked", "notes", "pets/rex", "a" * 16])
def test_a_run_is_named_by_its_id_alone(client: TestClient, desk: Desk, run: str) -> None:
    assert client.post("/api/v1/import", json={"run": run}).json()["problems"] == ["no such run"]
    assert desk.projects.all() == [] and desk.queue.store.all() == []


def test_links_other_folders_and_the_projects_themselves_are_not_listed(desk: Desk, tmp_path: Path) -> None:
    write_run(desk.projects.folder / "rex" / "runs" / "1")
    assert [run.name for run in found_runs(tmp_path / "runs", but_not=desk.projects.folder)] == ["pets/rex"]
    everywhere = [run.name for run in found_runs(tmp_path, but_not=desk.projects.folder)]
    assert sorted(everywhere) == ["elsewhere", "runs/pets/rex"]
    assert found_runs(tmp_path / "none", but_not=tmp_path) == found_runs(None, but_not=tmp_path) == []


def test_a_run_on_another_disk_is_copied_only_by_agreement_and_where_it_fits(
    client: TestClient, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    run = {"run": _id(client)}
    monkeypatch.setattr(run_imports.FoundRun, "is_on_disk_of", lambda self, folder: False)
    monkeypatch.setattr(os, "link", refuse)
    page = client.get("/import").text
    assert "on another disk: would be copied" in page and 'name="copy"' in page
    refused = client.post("/api/v1/import", json=run).json()
    assert refused["problems"] == ["pets/rex: is on another disk, so 2 KB would be copied"]
    with monkeypatch.context() as full:
        full.setattr(screen_import, "free_disk_bytes", lambda folder: 1000)
        crowded = client.post("/api/v1/import", json={**run, "copy": True}).json()
        assert "there is no room left" in crowded["problems"][0]
    assert desk.projects.all() == []
    client.post("/api/v1/import", json={**run, "copy": True})
    source = tmp_path / "runs" / "pets" / "rex"
    with pytest.raises(RunError, match="cannot be linked"):
        bring_run(source, tmp_path / "other", may_copy=False)
    assert not (tmp_path / "other").exists() and _run_it(desk) == 0
    copied = desk.projects.named("rex").runs / "1" / "model.safetensors"
    assert copied.read_bytes() == (source / "model.safetensors").read_bytes() and copied.stat().st_nlink == 1


def test_a_run_that_is_trained_or_damaged_is_refused(client: TestClient, desk: Desk, tmp_path: Path) -> None:
    run, path = {"run": _id(client)}, tmp_path / "runs" / "pets" / "rex"
    own = {"state": "running", "host": os.uname().nodename, "process": os.getpid(), "process_started": start_time(os.getpid())}
    write_json(path / "status.json", {**own, "started": 1.0})
    assert client.post("/api/v1/import", json=run).json()["problems"] == ["pets/rex: is being trained right now"]
    (path / "status.json").unlink()
    (path / "config.yaml").write_text("loop: {steps: many}\n", encoding="utf-8")
    assert "steps" in " ".join(client.post("/api/v1/import", json=run).json()["problems"])
    assert desk.projects.all() == []
