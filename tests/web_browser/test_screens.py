"""Every screen in every state: for a screen reader, on a phone, in the dark, without scripts, by the keyboard alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from dreambooth.files import write_json
from dreambooth.runs.alive import start_time
from dreambooth.web.commands import verb_command
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord, JobState
from dreambooth.web.photo_cards import photo_id
from dreambooth.web.projects import Project
from dreambooth.web.screens import STEPS
from tests.unit.web.conftest import picture_bytes, write_run
from tests.unit.web.test_memory_bars import TABLE
from tests.unit.web.test_scores import add_events, scored, write_scores
from tests.web_browser.conftest import DESKTOP, PHONE, Visit, faults

pytestmark = pytest.mark.slow

TOLD = [
    '{"event": "say", "text": "A model of the family sd1."}',
    '{"event": "table", "title": "Parts", "columns": ["part", "size"], "rows": [["unet", "1 GB"], ["vae", "1 GB"]]}',
    '{"event": "warn", "text": "2 tensors were left over."}',
]
PLAN = json.dumps(TABLE)


@pytest.fixture(scope="module")
def states(desk: Desk) -> dict[str, Project]:
    """A project in each state that a training can be in."""
    return {name: make(desk, name) for name, make in _MAKERS.items()}


def _project(desk: Desk, name: str) -> Project:
    project = desk.projects.create(name, preset="toybox", settings={"subject.class_word": "vase"})
    for number in range(3):
        (project.photos / f"photo-{number}.png").write_bytes(picture_bytes(120, 80, seed=number))
    return project


def _broken(desk: Desk, name: str) -> Project:
    """Settings and photos with every kind of problem."""
    project = desk.projects.create(name, settings={"loop.steps": "many", "subject.token": "photograph", "no_such": "1"})
    for path, content in (("cut.png", picture_bytes()[:300]), ("small.png", picture_bytes(20, 10)), ("notes.doc", b"?")):
        (project.photos / path).write_bytes(content)
    for same in ("one", "two"):
        (project.photos / f"{same}.png").write_bytes(picture_bytes(600, 512, seed=9))
    (project.photos / "one.txt").write_text("a caption", encoding="utf-8")
    return project


def _trained(desk: Desk, name: str, state: JobState = "finished", kind: str = "train", **changes: Any) -> Project:
    project = _project(desk, name)
    write_run(project.runs / "1")
    _job(desk, project, kind, state, place="runs/1", lines=["step 3 of 4"], **changes)
    return project


def _job(desk: Desk, project: Project, kind: str, state: JobState, *, lines: list[str], **changes: Any) -> JobRecord:
    command = verb_command("train", photos=project.photos)
    record = JobRecord(0, kind, kind.capitalize(), project.name, command.arguments, command.typed, "", 0.0)
    job = desk.queue.store.add(replace(record, state=state, started=1.0, **changes))
    files = desk.queue.store.files(job.number)
    files.log.write_text("\n".join(lines), encoding="utf-8")
    write_json(files.process, {"process": os.getpid(), "started": start_time(os.getpid())})
    return job


def _unfinished(desk: Desk, name: str, state: JobState, **changes: Any) -> Project:
    project = _trained(desk, name, state, **changes)
    config = project.runs / "1" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("steps: 4", "steps: 40"), encoding="utf-8")
    events = (project.runs / "1" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    (project.runs / "1" / "events.jsonl").write_text("\n".join([*events, ""]), encoding="utf-8")
    add_events(project.runs / "1", scored(2, 0.7), scored(4, 0.5))
    return project


def _scored(desk: Desk, name: str) -> Project:
    project = _trained(desk, name, ended=9.0)
    write_scores(project.runs / "1")
    _job(desk, project, "evaluate", "finished", lines=[], place="runs/1/evaluation", ended=9.0)
    return project


def _full(desk: Desk, name: str) -> Project:
    """Everything that was asked for beside the training: descriptions, pictures, a conversion, class images."""
    project = _unfinished(desk, name, "stopped", reason="stopped as asked, and saved", ended=9.0)
    for kind, lines in (("describe", TOLD), ("plan", [PLAN]), ("convert", [])):
        _job(desk, project, kind, "finished", lines=lines, ended=9.0)
    for which, place in (("1", "."), ("1", "base")):
        folder = project.pictures / which / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "00.png").write_bytes(picture_bytes())
        _job(desk, project, "pictures", "finished", lines=[], place=folder.relative_to(project.path).as_posix(), ended=9.0)
    write_json(project.pictures / "1" / "request.json", {"prompt": "photo of a sks vase"})
    project.class_images.mkdir()
    (project.class_images / "00.png").write_bytes(picture_bytes())
    project.exports.mkdir()
    (project.exports / "small.ckpt").write_bytes(b"?" * 2000)
    push = verb_command("push", project.runs / "1", repo="me/vase", dry_run=True, output=project.exports / "push-1")
    _job(desk, project, "push-check", "finished", lines=[], place="exports/push-1", ended=9.0, command=push.arguments)
    (project.exports / "push-1").mkdir()
    (project.exports / "push-1" / "README.md").write_text("# vase\n" + "A long line of words. " * 20, encoding="utf-8")
    return project


_MAKERS = {
    "new": lambda desk, name: desk.projects.create(name),
    "broken": _broken,
    "waiting": lambda desk, name: _trained(desk, name, "waiting"),
    "running": lambda desk, name: _unfinished(desk, name, "running"),
    "stopped": _full,
    "failed": lambda desk, name: _trained(desk, name, "failed", reason="error: " + "CUDA out of memory " * 30, ended=9.0),
    "finished": _scored,
}


def _addresses(states: dict[str, Project], desk: Desk) -> Iterator[str]:
    screens = [name for name, _ in STEPS] + ["settings"]
    yield from (
        "/",
        "/?token=x",
        "/import",
        "/projects/none/photos",
        *(f"/jobs/{job.number}" for job in desk.queue.store.all()),
    )
    yield from (f"/projects/{states[name].name}/{screen}" for name in ("new", "broken", "stopped") for screen in screens)
    yield from (f"/projects/{project.name}/{screen}" for project in states.values() for screen in ("train", "choose"))
    stopped = f"/projects/{states['stopped'].name}/choose"
    photos = states["stopped"].photos
    yield f"/projects/{states['stopped'].name}/photos/{photo_id(photos / 'photo-0.png', photos)}/draw"
    yield from (f"{stopped}?left=2&right=4", f"{stopped}/blind?seed=a1", f"{stopped}/blind?seed=a1&answers=l")


@pytest.mark.parametrize("form", [DESKTOP, PHONE], ids=["light", "phone-dark"])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    still: str, visit: Visit, desk: Desk, states: dict[str, Project], form: dict[str, Any]
) -> None:
    visitor = visit(still, **form)
    page = visitor.open()
    found, seen = [], set[str]()
    for address in _addresses(states, desk):
        page.goto(still + address)
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        found += faults(page)
        seen.add(address)
    visitor.errors[:] = [error for error in visitor.errors if "status of 4" not in error]  # pages that say what is missing
    assert found == []
    assert len(seen) > 45


def test_without_scripts_every_step_can_be_taken(still: str, visit: Visit, desk: Desk, tmp_path: Path) -> None:
    page = visit(still, java_script_enabled=False).open()
    page.get_by_label("Name of your subject").fill("Plain")
    page.get_by_role("button", name="New project").click()
    photos = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(photos):
        path.write_bytes(picture_bytes(seed=number))
    page.get_by_label("Add photos").set_input_files(photos)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("3 usable photos")).to_be_visible()
    page.get_by_label("Caption", exact=True).first.fill("my own words")
    page.get_by_role("button", name="Save caption").first.click()
    page.get_by_role("link", name="Next: the model").click()
    page.get_by_label("Preset", exact=True).select_option("toybox")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Next: the words").click()
    page.get_by_label("Class word").fill("vase")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Next: class images").click()
    page.get_by_role("link", name="Next: train").click()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".job")).to_contain_text("Train: waiting")
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.get_by_role("button", name="Remove from the queue").click()
    _wait_until_nothing_runs(page)
    project = desk.projects.named("plain")
    assert [path.read_text(encoding="utf-8") for path in project.photos.glob("*.txt")] == ["my own words\n"]
    write_run(project.runs / "1")
    for screen, button in (("choose", "Choose step 2"), ("choose", "Score now"), ("take", "Convert"), ("try", "Make pictures")):
        page.goto(f"{still}/projects/plain/{screen}")
        with page.expect_navigation():
            page.get_by_role("button", name=button).click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text("This was not done")
    assert {job.kind for job in desk.queue.store.of("plain")} == {"convert", "evaluate", "pictures"}
    for job in desk.queue.store.of("plain"):
        desk.queue.stop(job.number)
    page.goto(f"{still}/projects/plain/take")
    page.get_by_label("Repository").fill("me/vase")
    page.get_by_role("button", name="Show what would be published").click()
    expect(page.locator("#push .job")).to_contain_text("Prepare: waiting")
    desk.queue.stop(desk.queue.store.of("plain")[-1].number)
    page.goto(f"{still}/import")
    page.get_by_role("radio", name="rex").check()
    page.get_by_label("Name of the new project").fill("Brought")
    page.get_by_role("button", name="Import").click()
    expect(page.locator(".job")).to_contain_text("Import a run: waiting")
    (job,) = desk.queue.store.of("brought")
    desk.queue.stop(job.number)


def _wait_until_nothing_runs(page: Page) -> None:
    """Until the Train screen came anew without a job: going elsewhere before would be ended by its coming."""
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible()


def _type_and_save(page: Page, field: str, text: str) -> None:
    _tab_to(page, field)
    page.keyboard.type(text)
    page.keyboard.press("Tab")
    expect(page.locator(".saved")).to_have_text("Saved")


def _tab_to(page: Page, name: str, *, tag: str = "") -> None:
    """Press Tab until something of this name has the focus; each stop on the way shows that it has it."""
    page.wait_for_load_state()
    for _ in range(80):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => { const one = document.activeElement, style = getComputedStyle(one);
            return { name: one.labels?.length ? one.labels[0].textContent : one.textContent, outline: style.outlineWidth,
                     tag: one.tagName, kind: style.outlineStyle }; }"""
        )
        assert (focus["outline"], focus["kind"]) == ("3px", "solid"), focus
        if focus["name"].strip().startswith(name) and tag in ("", focus["tag"]):
            return
    raise AssertionError(f"no Tab leads to {name!r}")


def _paint_a_mask(page: Page) -> None:
    _tab_to(page, "Draw a mask")
    page.keyboard.press("Enter")
    page.wait_for_url("**/draw")
    _tab_to(page, "Painting area")
    for key in ("ArrowLeft", "+", "Space"):
        page.keyboard.press(key)
    _tab_to(page, "Save mask")
    page.keyboard.press("Enter")
    expect(page.locator(".draw .saved")).to_have_text("Saved")
    _tab_to(page, "Back to the photos")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Change the mask of photo.png")).to_be_visible()


def test_the_keyboard_alone_is_enough(still: str, visit: Visit, desk: Desk, tmp_path: Path) -> None:
    page = visit(still).open()
    page.on("filechooser", lambda _: None)  # from the start: playwright does not wait until the browser knows that it listens
    _tab_to(page, "Skip to content")
    _tab_to(page, "Name of your subject")
    page.keyboard.type("Keys")
    page.keyboard.press("Enter")
    page.wait_for_url("**/photos")
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture_bytes())
    _tab_to(page, "Add photos")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)
    expect(page.get_by_text("1 usable photo")).to_be_visible()
    _paint_a_mask(page)
    assert Image.open(desk.projects.named("keys").photos / "photo-mask.png").getextrema() == (0, 255)
    _tab_to(page, "Next: the model")
    page.keyboard.press("Enter")
    page.wait_for_url("**/model")
    _type_and_save(page, "Preset", "toybox")
    _tab_to(page, "Next: the words")
    page.keyboard.press("Enter")
    page.wait_for_url("**/words")
    _type_and_save(page, "Class word", "vase")
    for link, url in (("Next: class images", "class-images"), ("Next: train", "train"), ("Train", "train")):
        _tab_to(page, link, tag="BUTTON" if link == "Train" else "A")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{url}")
        page.wait_for_load_state()
    expect(page.locator(".job")).to_contain_text("Train: waiting")
    _tab_to(page, "Remove from the queue")
    page.keyboard.press("Enter")
    _wait_until_nothing_runs(page)
    write_run(desk.projects.named("keys").runs / "1")
    page.goto(f"{still}/projects/keys/choose")
    _tab_to(page, "photo of a sks vase")


def test_a_large_picture_is_walked_through_by_keys(still: str, visit: Visit, states: dict[str, Project]) -> None:
    page = visit(still).open(f"/projects/{states['finished'].name}/train")
    page.locator(".strip a").first.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog img")
    expect(large).to_have_attribute("alt", "photo of a sks vase, step 2")
    page.keyboard.press("ArrowRight")
    expect(large).to_have_attribute("alt", "photo of a sks vase, step 4")
    assert faults(page) == []
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()


def test_a_page_shows_what_another_page_changed(still: str, visit: Visit, states: dict[str, Project]) -> None:
    visitor, project = visit(still), states["running"]
    one, two = visitor.open(f"/projects/{project.name}/train"), visitor.open(f"/projects/{project.name}/train")
    events = project.runs / "1" / "events.jsonl"
    with events.open("a", encoding="utf-8") as file:
        file.write(f'{{"event": "step", "step": 5, "time": {time.time()}, "instance_loss": 0.1}}\n')
    for page in (one, two):
        expect(page.locator(".progress")).to_contain_text("Step 5 of 40")
    two.get_by_role("button", name="Stop and keep").click()
    for page in (one, two):
        expect(page.locator(".job")).to_contain_text("stopping after this step")
