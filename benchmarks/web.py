"""`web`: how much of the machine the browser interface takes while 50 pages watch one training, and how quickly it answers."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.records import ROOT, add_output_option, emit
from dreambooth.errors import RunError
from dreambooth.files import write_json
from dreambooth.runs.alive import start_time
from dreambooth.runs.folder import RunFolder
from dreambooth.web.commands import verb_command
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord
from dreambooth.web.projects import Project

__all__ = ["add_arguments", "listening", "measure", "register_run", "serving"]

_CONFIG = "loop: {steps: 1000000}\nsubject: {token: sks, class_word: vase}\n"
_SECONDS_TO_START = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `web`."""
    parser.add_argument("--pages", type=int, default=50, help="pages that watch the training (default: 50)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long (default: 20)")
    parser.add_argument("--runs", type=int, default=1000, help="runs in the folder that is listed (default: 1000)")
    parser.add_argument("--steps-per-second", type=float, default=5.0, help="of the training that is watched (default: 5)")
    parser.add_argument("--history", type=int, default=2000, help="steps before the pages open (default: 2000)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Serve a folder, listen with all pages, and print one record."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk.at(Path(folder) / "projects")
        watched = _watched(desk, arguments.history)
        _many(desk, arguments.runs)
        with serving(desk.projects.folder) as (port, token, start):
            values = {
                "pages": arguments.pages,
                "runs": arguments.runs,
                **{name: round(value, 3) for name, value in start.items()},
                "seconds_to_list_projects": round(_seconds(port, token, "/"), 3),
                "seconds_to_list_runs": round(_seconds(port, token, "/projects/many/choose"), 3),
                "seconds_to_show_train": round(_seconds(port, token, "/projects/watched/train"), 3),
                **_watch(port, token, watched, arguments),
            }
    emit("web", values, arguments.output, device=torch.device("cpu"))


def _watched(desk: Desk, history: int) -> RunFolder:
    """A run that looks as if it trained in this process."""
    project = desk.projects.create("Watched", preset="toybox", settings={"subject.class_word": "vase"})
    run = _run(project, "1")
    with run.events.open("w", encoding="utf-8") as file:
        file.writelines(_step(step) for step in range(1, history + 1))
    register_run(desk, project, run, os.getpid())
    return run


def register_run(desk: Desk, project: Project, run: RunFolder, process: int) -> None:
    """Make the queue believe that it started `process` for the run."""
    command, name = verb_command("train", resume=run.path), f"runs/{run.path.name}"
    record = JobRecord(0, "train", "Train", project.name, command.arguments, command.typed, "", 0.0, name, "running")
    job = desk.queue.store.add(record)
    write_json(desk.queue.store.files(job.number).process, {"process": process, "started": start_time(process)})


def _many(desk: Desk, num: int) -> None:
    project = desk.projects.create("Many", preset="toybox", settings={"subject.class_word": "vase"})
    for number in range(1, num + 1):
        run = _run(project, str(number))
        run.events.write_text("".join(_step(step) for step in range(1, 11)), encoding="utf-8")
        run.final_model.write_bytes(_empty_model())


def _empty_model() -> bytes:
    header = json.dumps({"__metadata__": {"global_step": "10"}}).encode()
    return len(header).to_bytes(8, "little") + header


def _run(project: Project, name: str) -> RunFolder:
    run = RunFolder(project.runs / name)
    run.path.mkdir(parents=True)
    run.config.write_text(_CONFIG, encoding="utf-8")
    return run


def _step(step: int) -> str:
    return json.dumps({"event": "step", "step": step, "time": time.time(), "instance_loss": 0.1, "prior_loss": 0.1}) + "\n"


@contextmanager
def serving(folder: Path) -> Iterator[tuple[int, str, dict[str, float]]]:
    """A server of the folder; yields its port, its token, and how long its start and its first page took."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    started = time.monotonic()
    command = [sys.executable, "-m", "dreambooth", "web", "--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        token = folder / ".web" / "token"
        while not token.is_file() or not _answers(port, token.read_text(encoding="ascii")):
            if process.poll() is not None or time.monotonic() - started > _SECONDS_TO_START:
                raise RunError("the server did not start")
            time.sleep(0.01)
        took = time.monotonic() - started
        times = psutil.Process(process.pid).cpu_times()
        start = {
            "seconds_to_first_page": round(took, 3),
            "processor_seconds_to_first_page": round(times.user + times.system, 3),
        }
        yield port, token.read_text(encoding="ascii"), start
    finally:
        process.terminate()
        process.wait(10)


def _asked(port: int, token: str, path: str) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=_SECONDS_TO_START)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def _answers(port: int, token: str) -> bool:
    try:
        return _asked(port, token, "/")[0] == 200
    except OSError:
        return False


def _seconds(port: int, token: str, path: str) -> float:
    """Seconds of a request, the best of three: others may use the machine."""
    found = []
    for _ in range(3):
        started = time.monotonic()
        status, _ = _asked(port, token, path)
        if status != 200:
            raise RunError(f"{path} answers with status {status}")
        found.append(time.monotonic() - started)
    return min(found)


def _watch(port: int, token: str, run: RunFolder, arguments: argparse.Namespace) -> dict[str, Any]:
    """Processor time of the server, as a share of one core, while all pages listen and the training goes on."""
    process = next(one for one in psutil.Process().children() if "web" in one.cmdline())
    with listening(port, token, arguments.pages) as received:
        _train(run, arguments.history, arguments.steps_per_second, seconds=3)  # until all of them have their first parts
        before, started, num_before = process.cpu_times(), time.monotonic(), len(received)
        _train(run, arguments.history + 100, arguments.steps_per_second, seconds=arguments.seconds)
        after, seconds = process.cpu_times(), time.monotonic() - started
        return {
            "share_of_core": round((after.user + after.system - before.user - before.system) / seconds, 4),
            "events_per_page": round((len(received) - num_before) / arguments.pages, 1),
            "server_mb": round(process.memory_info().rss / 1e6, 1),
        }


@contextmanager
def listening(port: int, token: str, num: int) -> Iterator[list[int]]:
    """Pages that watch the run of the project "watched"; yields a list that grows by one with each event of each page."""
    ended, received = threading.Event(), list[int]()
    pages = [threading.Thread(target=_listen, args=(port, token, ended, received)) for _ in range(num)]
    for page in pages:
        page.start()
    try:
        yield received
    finally:
        ended.set()
        for page in pages:
            page.join()


def _train(run: RunFolder, first: int, steps_per_second: float, *, seconds: float) -> None:
    """Write steps as a training does."""
    until, step = time.monotonic() + seconds, first
    while time.monotonic() < until:
        step += 1
        with run.events.open("a", encoding="utf-8") as file:
            file.write(_step(step))
        time.sleep(1 / steps_per_second)


def _listen(port: int, token: str, ended: threading.Event, received: list[int]) -> None:
    """A page: counts the events that it gets."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=_SECONDS_TO_START)) as connection:
        connection.request("GET", "/projects/watched/live", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        while not ended.is_set():
            if answer.readline().startswith(b"data:"):
                received.append(1)
