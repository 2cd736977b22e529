"""Files of the browser interface, read as its pages read them: a damaged one is told or passed over, and no page breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from starlette.testclient import TestClient

from dreambooth.files import write_json
from dreambooth.pages.images import save_picture
from dreambooth.runs.folder import RunFolder
from dreambooth.web.app import application
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord
from dreambooth.web.run_scores import scores_file
from tests.unit.web.test_scores import add_events, scored, write_scores

__all__ = ["web_files"]

_TOKEN = "k" * 43
_SETTINGS = {"subject.class_word": "vase", "loop.steps": "4", "output.preview_prompts": ["a", "b"], "views.crop": "center"}
_SAID = ({"event": "say", "text": "a"}, {"event": "table", "title": "t", "columns": ["a"], "rows": [["1"]]})


def web_files(folder: Path) -> dict[str, tuple[Path, Callable[[], bool]]]:
    """Each kind of file, and what reads it: whether all pages that show it answered, and not with a problem."""
    desk = Desk.at(folder)
    client = TestClient(application(desk, token=_TOKEN), base_url="http://127.0.0.1:7860", follow_redirects=False)
    client.headers["authorization"] = f"Bearer {_TOKEN}"
    project = desk.projects.create("Rex", preset="toybox", settings=dict(_SETTINGS))
    write_json(project.path / "project.json", asdict(replace(project.notes, created=1.0)))
    run = project.runs / "1"
    for path in (run / "previews" / "step-000002" / "00-a.png", project.pictures / "1" / "a.png"):
        path.parent.mkdir(parents=True)
        save_picture(path, torch.zeros(3, 8, 8), {"dreambooth": json.dumps({"prompt": "a vase", "seed": 1})})
    (run / "config.yaml").write_text("base: {model: toybox}\nsubject: {token: sks, class_word: vase}\nloop: {steps: 4}\n")
    (run / "model.safetensors").write_bytes(b"")
    (run / "events.jsonl").write_text('{"event": "step", "step": 2, "time": 1.0, "instance_loss": 0.5}\n')
    add_events(run, scored(2, 0.5))
    write_scores(run)
    write_json(project.pictures / "1" / "request.json", {"prompt": "a", "seed": "1", "with_base": True})
    for kind, place in (("train", "runs/1"), ("pictures", "pictures/1"), ("describe", "")):
        record = JobRecord(0, kind, "A job", "rex", ("true",), "true", "", 0.0, place=place, state="running", started=1.0)
        files = desk.queue.store.files(desk.queue.store.add(record).number)
        files.log.write_text(
            '{"event": "say", "text": "a"}\n{"event": "table", "title": "t", "columns": ["a"], "rows": [["1"]]}\n'
        )
        write_json(files.process, {"process": 1, "started": 2.0, "supervisor": 1, "supervisor_started": 2.0})
    train, describe = desk.queue.store.files(1), desk.queue.store.files(3)
    write_json(train.end, {"code": 0, "ended": 3.0})

    def pages(*names: str) -> bool:
        return all(client.get(name).status_code == 200 for name in names)

    def looked_after() -> bool:
        job = desk.queue.store.get(1)
        return desk.queue.store.looked_up(job, desk.queue.run_of(job)).state in {"finished", "failed"}

    rex = "/projects/rex"
    return {
        "web: job": (train.stem.with_suffix(".json"), lambda: pages("/", "/jobs/1", f"{rex}/train") and looked_after()),
        "web: process of a job": (train.process, looked_after),
        "web: end of a job": (train.end, looked_after),
        "web: words of a job": (describe.log, partial(pages, "/jobs/3", f"{rex}/model")),
        "web: project": (
            project.path / "project.json",
            partial(pages, "/", f"{rex}/photos", f"{rex}/settings", f"{rex}/train"),
        ),
        "web: request": (project.pictures / "1" / "request.json", partial(pages, f"{rex}/try")),
        "web: config of a run": (run / "config.yaml", partial(pages, "/", f"{rex}/train", f"{rex}/choose", f"{rex}/try")),
        "web: events of a run": (run / "events.jsonl", partial(pages, "/", f"{rex}/train", f"{rex}/choose")),
        "web: scores of a run": (scores_file(RunFolder(run)), partial(pages, f"{rex}/train", f"{rex}/choose")),
        "web: preview": (run / "previews" / "step-000002" / "00-a.png", partial(pages, f"{rex}/train", f"{rex}/take")),
    }
