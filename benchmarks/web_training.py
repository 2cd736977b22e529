"""`web-training`: whether 50 open pages make a training slower."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.records import ROOT, add_output_option, emit
from benchmarks.web import listening, register_run, serving
from dreambooth.errors import RunError
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.web.desk import Desk

__all__ = ["add_arguments", "measure"]

_SECONDS_TO_START = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `web-training`."""
    parser.add_argument("--pages", type=int, default=50, help="pages that watch the training (default: 50)")
    parser.add_argument("--turns", type=int, default=8, help="turns with pages, and as many without (default: 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn (default: 10)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Train toybox without class images, open and close all pages in turns, and print one record."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk.at(Path(folder) / "projects")
        project = desk.projects.create("Watched", preset="toybox", settings={"subject.class_word": "vase"})
        run = RunFolder(project.runs / "1")
        with _training(Path(folder) / "photos", run) as process, serving(desk.projects.folder) as (port, token, _):
            register_run(desk, project, run, process.pid)
            _wait_for_steps(process, run)
            alone, watched = list[float](), list[float]()
            for _ in range(arguments.turns):
                alone.append(_seconds_per_step(run, arguments.seconds))
                with listening(port, token, arguments.pages) as received:
                    time.sleep(2)  # until all of them have their first parts
                    if len(received) < arguments.pages:
                        raise RunError(f"only {len(received)} parts reached {arguments.pages} pages")
                    watched.append(_seconds_per_step(run, arguments.seconds))
    ratios = sorted(after / before for before, after in zip(alone, watched, strict=True))
    values = {
        "pages": arguments.pages,
        "ms_alone": round(1000 * statistics.median(alone), 2),
        "ms_watched": round(1000 * statistics.median(watched), 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }
    emit("web-training", values, arguments.output, device=torch.device("cpu"))


@contextmanager
def _training(photos: Path, run: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """The installed command, until the block is left."""
    command = [sys.executable, "-m", "dreambooth"]
    subprocess.run([*command, "toybox", "photos", "--output", str(photos)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    train = [*command, "train", "--preset", "toybox", "--photos", str(photos), "--class-word", "vase"]
    length = ["--prior-weight", "0", "--steps", "100000", "--checkpoint-steps", "100000", "--preview-steps", "0"]
    with (photos.parent / "said.txt").open("wb") as said:
        process = subprocess.Popen([*train, *length, "--output", str(run.path)], cwd=ROOT, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _wait_for_steps(process: subprocess.Popen[bytes], run: RunFolder) -> None:
    started = time.monotonic()
    while len(_step_times(run)) < 20:
        if process.poll() is not None or time.monotonic() - started > _SECONDS_TO_START:
            raise RunError("the training did not start")
        time.sleep(0.5)


def _seconds_per_step(run: RunFolder, seconds: float) -> float:
    """The mean over the steps of the next so many seconds; events tell the time in milliseconds."""
    before = len(_step_times(run))
    time.sleep(seconds)
    times = _step_times(run)[before:]
    if len(times) < 2:
        raise RunError(f"{len(times)} steps in {seconds:g} seconds: give more --seconds")
    return (times[-1] - times[0]) / (len(times) - 1)


def _step_times(run: RunFolder) -> list[float]:
    return [event["time"] for event in read_events(run.events) if event["event"] == "step"]
