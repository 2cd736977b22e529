"""The way from photos to a model file, in a browser, while servers and trainings are killed."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors import safe_open

from dreambooth.recipes.toybox import write_photos
from dreambooth.web.desk import Desk
from tests.web_browser.conftest import PATIENCE, PHONE, PNGS, Server, Visit, faults, picture_of

pytestmark = pytest.mark.slow

STEPS = 240 if PNGS else 100
DROP = """(form, files) => {
  const data = new DataTransfer();
  for (const [name, content] of Object.entries(files))
    data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name));
  form.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_from_photos_to_a_file(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server.base, token="")
    page = visitor.open(server.link.removeprefix(server.base))
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    _prepare(page, tmp_path)
    _kill_a_training(page, server)
    _train_while_pages_and_servers_come_and_go(page, server, visit)
    _choose_try_and_take(page, tmp_path)


def _prepare(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Name of your subject").fill("Blue vase")
    page.get_by_role("button", name="New project").click()
    photos = {path.name: base64.b64encode(path.read_bytes()).decode() for path in write_photos("belted-vase", tmp_path / "ph")}
    page.locator("form.drop").evaluate(DROP, photos)
    expect(page.get_by_text("5 usable photos")).to_be_visible()
    assert "Train first" in page.get_by_text("Take away").inner_text()
    page.get_by_role("link", name="Next: the model").click()
    _change(page, "Preset", "toybox")
    page.get_by_role("button", name="Look into the model").click()
    expect(page.locator("#described")).to_contain_text("finished")
    expect(page.locator("#described")).to_contain_text("parameters")
    picture_of(page, "model")
    page.get_by_role("link", name="Next: the words").click()
    _change(page, "Class word", "vase")
    page.reload()
    expect(page.locator(".sentence").first).to_contain_text("photo of a sks vase")
    picture_of(page, "words")
    page.get_by_role("link", name="Photos").click()
    picture_of(page, "photos")
    page.get_by_role("link", name="Draw a mask").first.click()
    _paint(page)
    picture_of(page, "mask")
    page.get_by_role("link", name="Words").click()
    page.get_by_role("link", name="Next: class images").click()
    picture_of(page, "class-images")
    if not PNGS:  # for the time that it takes; pictures show a class that is kept
        _change(page, "Weight of the class examples", "0")
    page.get_by_role("link", name="Next: train").click()
    page.get_by_text("Steps, learning rate").click()
    page.get_by_role("link", name="All settings").click()
    page.get_by_label("Find a setting").fill("steps")
    for name, value in (("Steps", STEPS), ("Steps between previews", STEPS // 4), ("Steps between models", STEPS // 2)):
        _change(page, name, str(value))
    picture_of(page, "settings")
    page.get_by_role("link", name="To the training").click()


def _paint(page: Page) -> None:
    """Paint a stroke with the pointer; it is not kept."""
    canvas = page.locator("canvas")
    canvas.wait_for()
    page.wait_for_load_state()
    box = canvas.bounding_box()
    assert box is not None
    for place, action in (((0.45, 0.3), page.mouse.down), ((0.5, 0.7), page.mouse.up)):
        page.mouse.move(box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"])
        action()
    row = canvas.evaluate("one => [...one.getContext('2d').getImageData(0, one.height / 2, one.width, 1).data]")
    brightness = [sum(row[4 * round(share * len(row) / 4) :][:3]) for share in (0.47, 0.03)]
    assert brightness[0] > 2 * brightness[1], "what is not painted is shaded"


def _change(page: Page, name: str, value: str) -> None:
    """Type or choose a value and wait until it is saved."""
    field = page.get_by_label(name, exact=True)
    form = page.locator("form.settings", has=field)
    field.wait_for()
    page.wait_for_load_state()  # the page's script listens only then
    if field.evaluate("one => one.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)
        field.blur()
    expect(form.locator(".saved")).to_have_text("Saved")
    form.locator(".saved").evaluate("one => { one.textContent = ''; }")


def _process(server: Server, number: int) -> int:
    process = Desk.at(server.folder).queue.store.files(number).read_process()
    assert process is not None
    return process.process


def _kill_a_training(page: Page, server: Server) -> None:
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".job")).to_contain_text("Train: running")
    expect(page.locator("pre.log")).to_be_visible()
    number = max(job.number for job in Desk.at(server.folder).queue.store.all())
    os.kill(_process(server, number), signal.SIGKILL)
    expect(page.locator(".reason")).to_contain_text("killed: the system ended the process")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible()  # the page was loaded anew by itself
    page.wait_for_load_state()
    assert faults(page) == []


def _train_while_pages_and_servers_come_and_go(page: Page, server: Server, visit: Visit) -> None:
    page.get_by_role("button", name="Train", exact=True).click()
    address = page.url.removeprefix(server.base)
    number = max(job.number for job in Desk.at(server.folder).queue.store.all())
    _wait_for_step(page, 2)
    process = _process(server, number)
    page.close()
    cookie = page.context.cookies()[0]["value"]
    laptop, phone = (visit(server.base, token=cookie, **options) for options in ({}, PHONE))
    pages = [laptop.open(address), phone.open(address)]
    for one in pages:
        expect(one.get_by_role("button", name="Save now")).to_be_visible()
        step = _step(one)
        _wait_for_step(one, step + 2)
    for button in ("Save now", "Preview now"):
        pages[0].get_by_role("button", name=button).click()
        pages[0].wait_for_load_state()
    _wait_for_step(pages[0], step + 4)
    expect(pages[0].locator("#live-previews figcaption").nth(1)).to_be_visible()  # the first one is of step 0
    server.kill()
    for one in pages:
        expect(one.get_by_role("alert")).to_be_visible()
    server.start()
    for one in pages:
        expect(one.get_by_role("alert")).to_be_hidden()
        step = _step(one)
        _wait_for_step(one, step + 2)
    assert _process(server, number) == process
    if PNGS:
        _wait_for_step(pages[0], STEPS * 3 // 5)
    picture_of(pages[0], "train")
    for one in pages:
        expect(one.get_by_role("link", name="Next: choose a model")).to_be_visible()
        assert one.locator("progress").get_attribute("value") == str(STEPS)
    for visitor in (laptop, phone):  # while there was no server
        assert all("ERR_CONNECTION_REFUSED" in one or "ERR_INCOMPLETE_CHUNKED" in one for one in visitor.errors)
        visitor.errors.clear()


def _step(page: Page) -> int:
    return int(page.locator("progress").get_attribute("value") or 0)


def _wait_for_step(page: Page, step: int) -> None:
    expect(page.locator("progress")).to_be_visible()
    while _step(page) < step:  # the content security policy refuses functions that wait in the page
        page.wait_for_timeout(100)


def _score(page: Page) -> None:
    page.get_by_text("Number of images, encoders").click()
    for name, value in (("Images per prompt", 1), ("Images of the class", 2), ("Denoising steps", 25 if PNGS else 4)):
        page.get_by_label(name, exact=True).fill(str(value))
    page.get_by_role("button", name="Score now").click()
    page.get_by_role("link", name="Show its scores").click()
    expect(page.get_by_role("heading", name="Scores of the finished run")).to_be_visible()
    expect(page.locator("table.scores tr.best")).to_contain_text("best")


def _choose_try_and_take(closed: Page, tmp_path: Path) -> None:
    page = closed.context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(closed.url)
    page.get_by_role("link", name="Next: choose a model").click()
    page.get_by_role("button", name=f"Choose step {STEPS // 2}").click()
    expect(page.get_by_role("heading", name=f"Step {STEPS // 2}: chosen")).to_be_visible()
    _score(page)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Side by side")).to_be_visible()
    picture_of(page, "choose")
    page.get_by_role("link", name="Next: try it").click()
    page.get_by_text("Number, steps, guidance").click()
    page.get_by_label("Images per prompt").fill("2")
    page.get_by_label("Denoising steps").fill("25" if PNGS else "4")
    page.get_by_role("button", name="Make pictures").click()
    expect(page.locator("#sets img")).to_have_count(2)
    expect(page.locator("#sets .job")).to_have_count(0)
    picture_of(page, "try")
    page.get_by_role("link", name="Next: take it away").click()
    with page.expect_download() as started:
        page.locator(".files a").first.click()
    file = tmp_path / "taken.safetensors"
    started.value.save_as(file)
    with safe_open(file, framework="pt") as model:
        assert model.metadata()["global_step"] == str(STEPS // 2)
    picture_of(page, "take")
    page.get_by_role("link", name="dreambooth").click()
    expect(page.get_by_role("link", name="Blue vase")).to_be_visible()
    picture_of(page, "projects")
