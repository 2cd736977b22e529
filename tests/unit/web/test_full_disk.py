"""The disk becomes full, or read-only, at each single change that a request makes: a message, and nothing half-written."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dreambooth.web.commands import Command
from dreambooth.web.desk import Desk
from dreambooth.web.guard import access_token
from dreambooth.web.jobs import JobRecord
from tests.disk_changes import changes_of, failer
from tests.unit.web.conftest import picture_bytes


class Disk:
    """Fails from one change to the disk on, while it is told to."""

    def __init__(self) -> None:
        self._then: Callable[[str, int], None] | None = None
        self._place, self._numbers = Path("/"), itertools.count(1)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._then is not None and changes_of(event, arguments, self._place):
            self._then(event, next(self._numbers))

    def fail(self, place: Path, fault: str, number: int) -> None:
        self._place, self._numbers, self._then = place, itertools.count(1), failer(fault, number)

    def heal(self) -> bool:
        """Whether everything that was changed went well."""
        self._then = None
        return True


@pytest.fixture(scope="module")
def whole_disk() -> Disk:
    return Disk()


@pytest.fixture
def disk(whole_disk: Disk) -> Iterator[Disk]:
    yield whole_disk
    whole_disk.heal()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a project": ("/projects", {"json": {"title": "Rex"}}),
    "the demo": ("/demo", {}),
    "a caption": ("/projects/demo/photos/{photo}/caption", {"json": {"caption": "a sks vase"}}),
    "a mask": ("/projects/demo/photos/{photo}/mask", {"files": {"files": ("m.png", picture_bytes())}}),
    "settings": ("/projects/demo/settings", {"json": {"shown": ["loop.steps"], "loop.steps": "5"}}),
    "a choice": ("/projects/demo/choose", {"json": {"run": "1", "step": "2"}}),
    "pictures": ("/projects/demo/try", {"json": {"prompt": "a vase", "with_base": "true"}}),
    "a conversion": ("/projects/demo/take/convert", {"json": {"format": "ckpt", "precision": "float16"}}),
    "scores": ("/projects/demo/score", {"json": {"run": "1"}}),
    "a dry run of a push": ("/projects/demo/take/push", {"json": {"repo": "me/vase"}}),
    "a description": ("/projects/demo/model/describe", {}),
    "a resume": ("/projects/demo/train/resume", {}),
    "a stop": ("/jobs/{running}/stop", {}),
}


@pytest.fixture
def addresses(client: TestClient, trained: str, desk: Desk) -> dict[str, str]:
    """The addresses of the requests, of a project with a photo, its caption and a running job."""
    files = [("files", ("a.png", picture_bytes())), ("files", ("a.caption", b"a vase"))]
    client.post(f"/projects/{trained}/photos", files=files)
    card = client.get(f"/api/v1/projects/{trained}/photos").json()["photos"][0]
    for job in desk.queue.store.all():
        desk.queue.store.remove(job)
    running = desk.queue.store.add(JobRecord(0, "convert", "Convert", trained, ("x",), "x", "", 0.0, state="running"))
    found = {"photo": card["id"], "running": running.number}
    return {name: "/api/v1" + address.format(**found) for name, (address, _) in REQUESTS.items()}


@pytest.mark.parametrize(("fault", "request_of"), [*itertools.product(["full", "read-only"], REQUESTS)])
def test_each_request_is_done_or_told(
    desk: Desk, client: TestClient, addresses: dict[str, str], disk: Disk, *, request_of: str, fault: str
) -> None:
    folder = desk.projects.folder
    before = _files(folder)
    for number in itertools.count(1):
        disk.fail(folder, fault, number)
        answer = client.post(addresses[request_of], **REQUESTS[request_of][1])
        disk.heal()
        if answer.status_code == 200:
            break
        _check(answer, fault)
        after = _files(folder)
        assert all(after[name] == before[name] for name in before.keys() & after.keys())
        assert fault == "read-only" or after == before, "on a read-only disk nothing can be removed"
    assert number > 1 and _files(folder) != before


def _check(answer: Any, fault: str) -> None:
    (problem,) = answer.json()["problems"]
    if fault == "full":
        assert answer.status_code == 507 and "there is no room left on the disk" in problem and answer.json()["hint"]
    else:
        assert answer.status_code == 500 and "Read-only file system" in problem


def test_an_upload_that_does_not_fit_leaves_whole_photos_only(client: TestClient, desk: Desk, disk: Disk) -> None:
    photos = desk.projects.create("Rex").photos
    pictures = [picture_bytes(seed=seed) for seed in range(2)]
    for number in itertools.count(1):
        disk.fail(photos, "full", number)
        files = [("files", (f"{seed}.png", content)) for seed, content in enumerate(pictures)]
        values = client.post("/api/v1/projects/rex/photos", files=files).json()
        disk.heal()
        kept = _files(photos)
        assert sorted(kept) == values["kept"] and set(kept.values()) <= set(pictures)
        assert all("there is no room left on the disk" in one for one in values["refused"])
        if not values["refused"]:
            break
        for path in photos.iterdir():
            path.unlink()
    assert number > 2


def test_the_queue_looks_again_when_the_disk_has_room(tmp_path: Path, disk: Disk) -> None:
    desk = Desk.at(tmp_path / "projects")
    project = desk.projects.create("Rex")
    for number in itertools.count(1):
        disk.fail(desk.queue.store.folder, "read-only", number)
        with suppress(OSError):
            job = desk.queue.add(project, "convert", Command((sys.executable, "-c", ""), "x"), title="Convert")
            break
    disk.heal()
    assert desk.queue.store.get(job.number).state == "waiting"
    desk.queue.tick()
    assert desk.queue.store.get(job.number).state == "running"
    for supervisor in desk.queue._supervisors.values():
        supervisor.wait(60)


def test_a_token_that_does_not_fit_is_made_at_the_next_start(tmp_path: Path, disk: Disk) -> None:
    disk.fail(tmp_path, "full", 3)
    with pytest.raises(OSError, match="No space left"):
        access_token(tmp_path / ".web" / "token")
    disk.heal()
    token = access_token(tmp_path / ".web" / "token")
    assert len(token) > 40 and access_token(tmp_path / ".web" / "token") == token
