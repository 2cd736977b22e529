"""A training is carried on until it has finished, whatever happens to its process, which is a stand-in here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dreambooth.runs import kept_training
from dreambooth.runs.alive import start_time
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.kept_training import Ending, KeptTraining, TrainingJob
from dreambooth.runs.tether import tethered

ACTS = """
import json, os, signal, sys, time
from pathlib import Path
run = Path(sys.argv[1]); run.mkdir(exist_ok=True)
(run / "config.yaml").write_text("loop: {steps: 9}")
(run / "events.jsonl").write_text(json.dumps({"event": "step", "step": 1, "time": 1.0}))
acts = (run / "acts").read_text().split()
(run / "acts").write_text(" ".join(acts[1:]))
def status(state, reason=""):
    values = dict(state=state, host="h", process=1, process_started=0.0, started=1.0, ended=2.0, reason=reason)
    (run / "status.json").write_text(json.dumps(values))
status("stopped")
def heard(number, frame):
    with (run / "heard").open("a") as file: file.write(f"{number} ")
    sys.exit(128 + number)
if acts[0] == "die": os.kill(os.getpid(), signal.SIGKILL)
if acts[0] == "fail": print("loading"); print("error: no photos"); sys.exit(1)
if acts[0] == "limit": status("stopped", "the time limit was reached")
if acts[0] == "finish": status("finished"); (run / "model.safetensors").touch()
if acts[0] == "wait":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, heard)
    (run / "waits").touch(); time.sleep(60)
"""


class World:
    """A run whose commands do one act after the other."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder / "rex")
        self.commands: list[dict[str, Any]] = []
        self.job = TrainingJob("rex", self.run, folder / "rex.yaml", folder / "log", folder)

    def command_line(self, verb: str, **settings: object) -> list[str]:
        assert verb == "train"
        self.commands.append(settings)
        return [sys.executable, "-S", "-c", ACTS, str(self.run.path)]

    def acts(self, *acts: str) -> None:
        self.run.path.mkdir(exist_ok=True)
        (self.run.path / "acts").write_text(" ".join(acts))

    def says(self, state: str, process: int) -> None:
        values = {"state": state, "host": socket.gethostname(), "process": process, "started": 1.0}
        values["process_started"] = start_time(process)
        self.run.status.write_text(json.dumps(values))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(kept_training, "command_line", world.command_line)
    return world


def until_it_ends(training: KeptTraining) -> Ending:
    deadline = time.monotonic() + 60
    while (ending := training.look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ending


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_training_that_is_killed_is_resumed(world: World) -> None:
    world.acts("die", "die", "finish")
    assert until_it_ends(KeptTraining(world.job, device="cpu")) == Ending("finished")
    first, *later = world.commands
    assert first == {"preset": world.job.settings, "device": "cpu"}
    assert later == 2 * [{"resume": world.run.path, "device": "cpu"}]


def test_a_training_that_is_killed_again_and_again_is_given_up(world: World) -> None:
    world.acts("die", "die", "die", "finish")
    ending = until_it_ends(KeptTraining(world.job))
    assert ending == Ending("failed", "its process was killed 3 times: most often because the machine ran out of memory")


def test_a_mistake_is_not_repeated(world: World) -> None:
    world.acts("fail", "finish")
    assert until_it_ends(KeptTraining(world.job)) == Ending("failed", "no photos")
    assert len(world.commands) == 1


def test_the_end_at_a_time_limit_is_not_the_end_of_the_training(world: World) -> None:
    world.acts("limit")
    assert until_it_ends(KeptTraining(world.job)) == Ending("stopped", "the time limit was reached")


def test_a_training_is_asked_to_stop_once(world: World) -> None:
    world.acts("wait")
    training = KeptTraining(world.job)
    assert training.look() is None
    until(world.run.path / "waits")
    training.stop()
    training.stop()
    assert until_it_ends(training) == Ending("stopped", "stopped as asked")
    assert (world.run.path / "heard").read_text() == f"{int(signal.SIGINT)} "


def test_one_that_somebody_else_stopped_is_left_stopped(world: World) -> None:
    world.acts("wait", "finish")
    training = KeptTraining(world.job)
    assert training.look() is None
    until(world.run.path / "waits")
    assert training._process is not None
    training._process.process.send_signal(signal.SIGTERM)
    assert until_it_ends(training) == Ending("stopped", "somebody stopped its process; it is saved")


def test_a_finished_run_is_passed_over_unless_it_is_to_become_longer(world: World) -> None:
    world.acts("finish", "finish")
    assert until_it_ends(KeptTraining(world.job)) == Ending("finished")
    assert until_it_ends(KeptTraining(world.job)) == Ending("finished")
    assert len(world.commands) == 1
    longer = TrainingJob(**{**vars(world.job), "changes": {"steps": 20}})
    assert until_it_ends(KeptTraining(longer)) == Ending("finished")
    assert world.commands[1:] == [{"resume": world.run.path, "device": None, "steps": 20}]


def test_a_finished_run_without_its_model_is_resumed(world: World) -> None:
    world.acts("finish", "finish")
    assert until_it_ends(KeptTraining(world.job)) == Ending("finished")
    world.run.final_model.unlink()
    assert until_it_ends(KeptTraining(world.job)) == Ending("finished")
    assert world.commands[1:] == [{"resume": world.run.path, "device": None}]


def test_a_training_that_another_process_does_is_waited_for(world: World) -> None:
    world.acts("finish")
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        world.says("running", other.pid)
        training = KeptTraining(world.job)
        assert [training.look() for _ in range(3)] == [None] * 3
        assert world.commands == []
        waits_no_longer = KeptTraining(world.job)
        waits_no_longer.stop()
        assert waits_no_longer.look() == Ending("stopped", "another process is training it")
        other.communicate(b"\n")
    assert until_it_ends(training) == Ending("finished")
    assert len(world.commands) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that the one that started it is gone")
def test_a_command_is_asked_to_stop_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.acts("wait")
    code = "import signal, subprocess, sys, time\nfrom dreambooth.runs.tether import tethered\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as under nohup
    code += "subprocess.Popen(tethered(sys.argv[1:]), start_new_session=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, *world.command_line("train")]) as starter:
        until(world.run.path / "waits")
        starter.kill()
    until(world.run.path / "heard")
    assert (world.run.path / "heard").read_text() == f"{int(signal.SIGHUP)} "


def test_a_command_that_is_watched_keeps_its_number_and_its_exit_code() -> None:
    code = "import os, sys; print(os.getpid(), flush=True); sys.exit(7)"
    with subprocess.Popen(tethered([sys.executable, "-S", "-c", code]), stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate()
    assert (int(printed), process.returncode) == (process.pid, 7)
    assert os.getpid() != process.pid
