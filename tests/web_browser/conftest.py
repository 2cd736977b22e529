"""A browser without a network, and servers for it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dreambooth.web.app import application
from dreambooth.web.desk import Desk
from dreambooth.web.job_queue import JobQueue
from tests.unit.web.conftest import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TOKEN = "k" * 43
DESKTOP = {"viewport": {"width": 1000, "height": 800}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "is_mobile": True, "has_touch": True}
PNGS = os.environ.get("DREAMBOOTH_SCREENSHOTS", "")
"""A folder for pictures of the screens, which docs/how-to/web.md shows; empty for none."""
PATIENCE = 600_000 if PNGS else 120_000  # milliseconds that a training may take to start on a busy machine


@dataclass
class Visitor:
    """A browser of its own, with everything that it should not have done."""

    context: BrowserContext
    base: str
    strangers: list[str] = field(default_factory=list)
    """Requests to other hosts."""
    errors: list[str] = field(default_factory=list)
    """What the pages complained of."""

    def open(self, path: str = "/") -> Page:
        """A new page at a path of the server."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(self.base + path)
        return page


expect.set_options(timeout=PATIENCE)

Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; `.ci/run` installs it")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Makes browsers that hold the token of a server; at the end none of them has asked another host or complained."""
    with closing_visitors(chromium) as make:
        yield make


@contextmanager
def closing_visitors(chromium: Browser) -> Iterator[Visit]:
    visitors: list[Visitor] = []

    def make(base: str, token: str = TOKEN, **options: Any) -> Visitor:
        visitor = Visitor(chromium.new_context(**{**DESKTOP, **options}), base)

        def stop(route: Any) -> None:
            visitor.strangers.append(route.request.url)
            route.abort()

        visitor.context.route(lambda url: not url.startswith((base, "data:", "blob:")), stop)
        if token:
            visitor.context.add_cookies([{"name": f"dreambooth_{base.rpartition(':')[2]}", "value": token, "url": base}])
        visitors.append(visitor)
        return visitor

    yield make
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.strangers for visitor in visitors] == [[]] * len(visitors)
    assert [visitor.errors for visitor in visitors] == [[]] * len(visitors)


def faults(page: Page) -> list[str]:
    """What is wrong with the page as it is: axe's findings, and whether it scrolls sideways."""
    found = [
        f"{page.url}: {one['id']} at {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append(f"{page.url}: scrolls sideways")
    return found


def picture_of(page: Page, name: str) -> None:
    """Keep the page as a picture, light and on a phone, where pictures are asked for."""
    if not PNGS:
        return
    for form, options in (("light", DESKTOP), ("phone", PHONE)):
        page.emulate_media(color_scheme=options["color_scheme"])
        page.set_viewport_size(options["viewport"])
        page.wait_for_load_state("networkidle", timeout=3000) if name not in ("train",) else page.wait_for_timeout(500)
        height = min(page.evaluate("document.documentElement.scrollHeight"), 1600)
        clip = {"x": 0, "y": 0, "width": options["viewport"]["width"], "height": height}
        image = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        image.convert("RGB").quantize(160, dither=Image.Dither.NONE).save(Path(PNGS) / f"web-{name}-{form}.png", optimize=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESKTOP["viewport"])


@dataclass
class Server:
    """`dreambooth web` in a process of its own, which can be killed and started again at the same address."""

    folder: Path
    port: int
    process: subprocess.Popen[str] | None = None
    link: str = ""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "dreambooth", "web", "--folder", str(self.folder), "--port", str(self.port)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        assert self.process.stdout is not None
        self.link = next(line.strip() for line in self.process.stdout if "http://" in line)

    def kill(self) -> None:
        """End the server without a chance to clean up."""
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = Server(tmp_path / "projects", port)
    one.start()
    yield one
    one.kill()
    queue = Desk.at(one.folder).queue
    for job in queue.store.all():  # a training outlives its server
        process = queue.store.files(job.number).read_process()
        if process is not None and process.is_alive:
            os.kill(process.process, signal.SIGKILL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk whose queue starts nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobQueue, "tick", lambda self: None)
        folder = tmp_path_factory.mktemp("still")
        write_run(folder / "runs" / "rex")
        yield Desk.at(folder / "projects", None, folder / "runs")


@pytest.fixture(scope="module")
def still(desk: Desk) -> Iterator[str]:
    """The address of a server in this process, on that desk."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        application(desk, token=TOKEN, port=port), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
    listening.close()
