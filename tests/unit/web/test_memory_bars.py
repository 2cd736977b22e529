"""The memory of each preset as a bar that is also a button."""

from __future__ import annotations

import json
from dataclasses import replace

from starlette.testclient import TestClient

from dreambooth.web.commands import Command
from dreambooth.web.desk import Desk
from dreambooth.web.memory_bars import memory_bars

TABLE = {
    "event": "table",
    "title": "Peak memory in GiB",
    "columns": ["preset", "weights", "peak", "fits"],
    "rows": [["24gb", "4.0", "20.0", "no"], ["12gb", "3.0", "10.0", "yes"], ["cpu", "3.0", "-", ""]],
}


def test_a_bar_is_a_share_of_the_largest_and_other_tables_have_none() -> None:
    bars = memory_bars([{**TABLE, "columns": ["part", "size"]}, {"event": "say", "text": "x"}, TABLE], chosen="12gb")
    assert bars == [
        {"preset": "24gb", "gib": 20.0, "percent": 100.0, "fits": "does not fit", "is_chosen": False},
        {"preset": "12gb", "gib": 10.0, "percent": 50.0, "fits": "fits", "is_chosen": True},
    ]
    assert memory_bars([], chosen="") == []


def test_a_click_on_a_bar_chooses_its_preset(client: TestClient, desk: Desk) -> None:
    project = desk.projects.create("Rex", settings={"base.model": "toybox"})
    job = desk.queue.add(project, "plan", Command(("x",), "x"), title="Predict memory")
    desk.queue.store.write(replace(job, state="finished"))
    desk.queue.store.files(job.number).log.write_text(json.dumps(TABLE), encoding="utf-8")
    assert ">12gb</button>" in client.get("/projects/rex/model").text
    client.post("/projects/rex/settings", data={"shown": "memory.memory_preset", "memory.memory_preset": "12gb"})
    bars = client.get("/api/v1/projects/rex/model").json()["bars"]
    assert [bar["is_chosen"] for bar in bars] == [False, True]
    assert "10.0 GiB, fits, chosen" in client.get("/projects/rex/model").text
