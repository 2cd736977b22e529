"""A command in a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from dreambooth.runs.process import Job, command_environment, command_line, error_text, flags

STOPS = (
    "import signal, sys, time\n"
    "def stop(*_):\n    print('saved'); sys.exit(130)\n"
    "signal.signal(signal.SIGINT, stop)\nprint('ready', flush=True)\ntime.sleep(60)\n"
)


def test_settings_become_flags() -> None:
    assert flags({"class_word": "dog", "steps": 3}) == ["--class-word=dog", "--steps=3"]
    assert flags({"train_text_encoder": False, "tensorboard": True}) == ["--no-train-text-encoder", "--tensorboard"]
    assert flags({"prompt": ["a", "b c"], "photos": Path("x y")}) == ["--prompt", "a", "b c", "--photos=x y"]
    assert flags({"preset": None, "also_prior": ()}) == []
    assert flags({"negative_prompt": "-5 degrees"}) == ["--negative-prompt=-5 degrees"]


def test_the_command_is_this_interpreters() -> None:
    assert command_line("inspect", "a.ckpt", token=["x"]) == [
        sys.executable,
        "-m",
        "dreambooth",
        "inspect",
        "a.ckpt",
        "--token",
        "x",
    ]


def test_the_colours_that_a_kernel_asks_for_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("CLICOLOR", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    environment = command_environment()
    assert not {"FORCE_COLOR", "CLICOLOR"} & environment.keys()
    assert environment["HF_TOKEN"] == "secret"
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_a_command_speaks_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    job = _job("print('狗')", tmp_path / "log.txt")
    assert job.wait(30)
    assert job.lines() == ["狗"]


def test_the_text_of_a_mistake_begins_where_it_begins() -> None:
    lines = ["loading", "error: 2 problems", "- one", "- two", "Do this."]
    assert error_text(lines) == "error: 2 problems\n- one\n- two\nDo this."
    assert error_text([f"line {number}" for number in range(50)]).splitlines()[0] == "line 30"


def _job(script: str, log: Path) -> Job:
    return Job.start([sys.executable, "-u", "-c", script], log=log)


def _until_ready(job: Job) -> None:
    end = time.monotonic() + 60
    while "ready" not in job.lines() and time.monotonic() < end:
        time.sleep(0.02)


def test_a_job_that_ends_by_itself(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "rex.log"
    job = _job("import sys; print('a'); print('b', file=sys.stderr)", log)
    assert job.wait(60)
    assert (job.is_running, job.has_failed, job.was_stopped) == (False, False, False)
    assert job.lines() == ["a", "b"]
    assert job.log == log


def test_a_job_that_is_asked_to_stop(tmp_path: Path) -> None:
    job = _job(STOPS, tmp_path / "log")
    _until_ready(job)
    assert job.is_running
    assert not job.wait(0.01)
    job.stop()
    assert job.wait(60)
    assert (job.has_failed, job.was_stopped) == (False, True)
    assert job.lines() == ["ready", "saved"]
    job.stop()  # nothing is left to ask


def test_a_job_that_fails(tmp_path: Path) -> None:
    job = _job("raise SystemExit(2)", tmp_path / "log")
    assert job.wait(60)
    assert (job.has_failed, job.was_stopped) == (True, False)


def test_a_job_hears_no_interrupt_of_its_starter(tmp_path: Path) -> None:
    job = _job("import os; print(os.getpgid(0) == os.getpid())", tmp_path / "log")
    assert job.wait(60)
    assert job.lines() == ["True"]


def test_a_job_waits_for_no_input(tmp_path: Path) -> None:
    job = _job("import sys; print(repr(sys.stdin.read()))", tmp_path / "log")
    assert job.wait(60)
    assert job.lines() == ["''"]
