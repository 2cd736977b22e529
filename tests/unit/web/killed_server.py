"""A server and its jobs, killed again and again: `python -m tests.unit.web.killed_server --kills 300 --seed 3`.

The server is a forked child that looks after the queue and puts into it what is missing. Half of its kills come at a random
moment, half right before a change to the disk. Jobs are small programs that write down when they begin and end; now and then
one of them, or its supervisor, is killed as well. Whatever happens, each job stands in the queue once, begins at most once and
never beside another, and has an end with a reason.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.web import job_queue, jobs
from dreambooth.web.commands import Command
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord
from tests.disk_changes import at_changes, killer

_NOTE = (
    "import os, sys, time\n"
    "def note(word):\n"
    "    file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
    "    os.write(file, f'{word} {sys.argv[2]} {time.monotonic()}\\n'.encode())\n"
)
_WELL = _NOTE + "note('begin'); time.sleep(0.1); note('end')"
_WRONG = _NOTE + "note('begin'); note('end'); print('error: nothing there'); sys.exit(2)"
_TRAINS = _NOTE + (
    "import signal\nsignals = []\nsignal.signal(signal.SIGINT, lambda *_: signals.append(1))\nnote('begin')\n"
    "while not signals: time.sleep(0.02)\n"
    "time.sleep(0.3); note('end' if len(signals) == 1 else 'twice'); sys.exit(130)"
)
_JOBS = {"a": _WELL, "b": _WRONG, "trains": _TRAINS, "c": _WELL, "d": _WELL}
_RESUME, _PLACE = "resume", "runs/1"
_ENDS = {"a": "finished", "b": "failed", "trains": "stopped", "c": "finished", "d": "finished", _RESUME: "finished"}


@dataclass
class Round:
    """One folder of projects, served until all its jobs have ended."""

    folder: Path
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    touched: set[str] = field(default_factory=set)
    """Titles of the jobs that were killed, or whose supervisor was."""

    @property
    def notes(self) -> Path:
        return self.folder / "notes.txt"

    @property
    def desk(self) -> Desk:
        return Desk.at(self.folder / "projects")

    def command(self, title: str, code: str) -> Command:
        return Command((sys.executable, "-S", "-c", code, str(self.notes), title), title)

    def all_jobs(self) -> dict[str, JobRecord]:
        """The jobs by their titles. Raises AssertionError if one stands there twice."""
        found = [(job.typed, job) for job in self.desk.queue.store.all()]
        assert len(found) == len(dict(found)), f"twice in the queue: {[title for title, _ in found]}"
        return dict(found)

    @property
    def is_done(self) -> bool:
        found = self.all_jobs()
        missing = set(_ENDS) - set(found)
        has_resume = not missing or (missing == {_RESUME} and found["trains"].state == "failed")  # killed before it stopped
        return has_resume and not any(job.is_active for job in found.values())

    def serve(self, num_changes: int | None) -> None:
        """What a server does, with a person who asks for what is missing; ends only by a kill, or when all is done."""
        job_queue.resume_command = lambda _: self.command(_RESUME, _WELL)  # type: ignore[assignment]
        jobs._SECONDS_TO_START, jobs._SECONDS_TO_BEGIN = 10.0, 1.0
        desk = self.desk
        if num_changes is not None:
            at_changes(self.folder / "projects", killer(num_changes))
        desk.tidy()
        project = desk.projects.create("Rex") if not desk.projects.all() else desk.projects.named("rex")
        while not self.is_done:
            there = self.all_jobs()
            for title, code in _JOBS.items():
                if title not in there:
                    kind, place = ("train", _PLACE) if title == "trains" else ("convert", "")
                    desk.queue.add(project, kind, self.command(title, code), title=title, place=place)
            training = self.all_jobs()["trains"]
            if training.state == "running" and not training.is_asked_to_stop and f"begin {training.typed}" in self._noted():
                desk.queue.stop(training.number, goes_on=True)
            desk.queue.tick()
            time.sleep(0.02)

    def _noted(self) -> str:
        return self.notes.read_text(encoding="utf-8") if self.notes.is_file() else ""

    def attempt(self) -> None:
        """One server, which is killed unless it is done before."""
        at_change = self.chance.random() < 0.5
        number = self.chance.randint(1, 40) if at_change else None
        child = os.fork()
        if child == 0:
            code = 70
            try:
                self.serve(number)
                code = 0
            finally:
                os._exit(code)
        deadline = time.monotonic() + (20 if at_change else self.chance.uniform(0.0, 1.5))
        while time.monotonic() < deadline:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the server ended with an exception"
                self.kills["server at a change"] += os.WIFSIGNALED(status)
                return
            if self.chance.random() < 0.01:
                self._kill_a_job()
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.kills["server at a moment"] += 1

    def _kill_a_job(self) -> None:
        running = [job for job in self.desk.queue.store.all() if job.state == "running"]
        for job in running:
            files = self.desk.queue.store.files(job.number)
            is_job = self.chance.random() < 0.5
            process = files.read_process() if is_job else files.read_supervisor()
            if process is not None and process.is_alive:
                self.touched.add(job.typed)
                os.kill(process.process, signal.SIGKILL)
                self.kills["job" if is_job else "supervisor"] += 1

    def check(self) -> None:
        """Raises AssertionError for anything that should not be."""
        notes = [line.split() for line in self._noted().splitlines()]
        begins = Counter(title for word, title, _ in notes if word == "begin")
        said = f"{notes} {self.all_jobs()}"
        assert all(number == 1 for number in begins.values()), f"begun twice: {said}"
        assert not any(word == "twice" for word, *_ in notes), f"asked twice to stop: {said}"
        for title, job in self.all_jobs().items():
            assert job.reason or job.state == "finished", f"an end without a reason: {said}"
            if title not in self.touched:
                assert (job.state, begins[title]) == (_ENDS[title], 1), f"{title}: {said}"
        times = {title: {word: float(moment) for word, name, moment in notes if name == title} for title in begins}
        spans = sorted((one["begin"], one.get("end", one["begin"])) for one in times.values())
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans)), f"side by side: {said}"
        leftovers = [path.name for path in (self.folder / "projects").rglob(".*.partial-*")]
        self.desk.tidy()
        assert not list((self.folder / "projects").rglob(".*.partial-*")), leftovers


def kill_servers(folder: Path, *, num_kills: int, seed: str) -> Counter[str]:
    """Serve round after round until `num_kills` processes were killed; returns how many of each kind."""
    chance, kills, number = random.Random(seed), Counter[str](), 0
    while kills.total() < num_kills:
        number += 1
        one = Round(folder / str(number), chance)
        one.folder.mkdir(parents=True)
        while not (one.desk.projects.all() and one.is_done):
            one.attempt()
        one.check()
        kills += one.kills
    return kills


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", default="0")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills = kill_servers(Path(folder), num_kills=given.kills, seed=given.seed)
    print(f"web: {kills.total()} kills ({', '.join(f'{count} {what}' for what, count in sorted(kills.items()))})", flush=True)


if __name__ == "__main__":
    main()
