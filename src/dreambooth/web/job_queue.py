"""The queue: starts what waits, looks after what runs, and goes on with what was paused."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from dreambooth.errors import RunError
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.process import command_environment, signal_previews, signal_save, signal_stop
from dreambooth.runs.supervisor import supervisor_command
from dreambooth.web.commands import Command, resume_command
from dreambooth.web.jobs import JobRecord, JobStore
from dreambooth.web.projects import Project, Projects

__all__ = ["JobQueue", "job_of"]


def job_of(project: Project, kind: str, command: Command, *, title: str, queue: str = "", place: str = "") -> JobRecord:
    """A job for the queue."""
    return JobRecord(0, kind, title, project.name, command.arguments, command.typed, queue, 0.0, place=place)


class JobQueue:
    """One job at a time on each device. All state is in the store's files, so a new server goes on where this one ended."""

    def __init__(self, store: JobStore, projects: Projects) -> None:
        self.store = store
        self._projects = projects
        self._supervisors: dict[int, subprocess.Popen[bytes]] = {}
        """Kept only to be reaped."""

    def add(self, project: Project, kind: str, command: Command, *, title: str, queue: str = "", place: str = "") -> JobRecord:
        """Put a command into the queue and start it if its device is free."""
        return self.add_all([job_of(project, kind, command, title=title, queue=queue, place=place)])[0]

    def add_all(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """Put jobs into the queue, all or none, and start the first if its device is free. Raises OSError on a full disk."""
        added = self.store.add_all(records)
        with suppress(OSError):  # they are in the queue, and the next look starts them
            self.tick()
        return added

    def tick(self) -> None:
        """Look at every job once; call it about twice a second."""
        with self.store.lock:
            gone = {number for number, process in self._supervisors.items() if process.poll() is not None}
            busy = set()
            for job in (one for one in self.store.all() if one.state == "running"):
                now = self._looked_after(job, is_supervisor_gone=job.number in gone)
                if now.state == "running":
                    busy.add(now.queue)
            for job in self.store.all():
                if job.state == "waiting" and job.queue not in busy:
                    busy.add(job.queue)
                    self._start(job)
            for number in gone & self._supervisors.keys():
                if self._supervisors[number].poll() is not None:  # and not one that was started just now
                    del self._supervisors[number]

    def stop(self, number: int, *, goes_on: bool = False) -> JobRecord:
        """Ask a job to end: one that waits is forgotten, one that runs finishes its step and saves.

        With `goes_on` its resume takes a place at the end of the queue. Raises RunError when it has ended.
        """
        with self.store.lock:
            job = self.store.get(number)
            if job.state == "waiting":
                self.store.remove(job)
            elif job.state == "running":
                job = replace(job, is_asked_to_stop=True, goes_on=goes_on)
                self.store.write(job)
                self.tick()
            else:
                raise RunError(f"the job has ended ({job.state})")
            return job

    def ask(self, number: int, what: Literal["save", "previews"]) -> None:
        """Ask a training past its first step for a checkpoint or previews; it goes on. Raises RunError when it does not run."""
        job, process = self.store.get(number), self.store.files(number).read_process()
        if job.state != "running" or process is None or not process.is_alive:
            raise RunError("the training is not running")
        (signal_save if what == "save" else signal_previews)(process.process)

    def run_of(self, job: JobRecord) -> RunFolder | None:
        """The run that a job trains."""
        return RunFolder(self._projects.folder / job.project / job.place) if job.kind == "train" and job.place else None

    def _looked_after(self, job: JobRecord, *, is_supervisor_gone: bool) -> JobRecord:
        now = self.store.looked_up(job, self.run_of(job), is_supervisor_gone=is_supervisor_gone)
        if now.state == "running" and now.is_asked_to_stop and not now.is_stop_sent:
            process = self.store.files(job.number).read_process()
            if process is not None and process.is_alive:
                # Written first: a server killed in between must not send it twice, since a second one quits without saving.
                now = replace(now, is_stop_sent=True)
                self.store.write(now)
                signal_stop(process.process)
                return now
        if now.state == "stopped" and now.goes_on:
            self._add_resume(now)  # before the end is written, which a killed server would not see again
        if now != job:
            self.store.write(now)
        return now

    def _add_resume(self, job: JobRecord) -> None:
        """Put the resume of a paused training at the end of the queue, once."""
        run = self.run_of(job)
        later = [one for one in self.store.of(job.project, ("train",)) if one.number > job.number and one.place == job.place]
        if run is not None and not later:
            command = resume_command(run.path)
            again = JobRecord(0, "train", "Go on training", job.project, command.arguments, command.typed, job.queue, 0.0)
            self.store.add(replace(again, place=job.place))

    def _start(self, job: JobRecord) -> None:
        files = self.store.files(job.number)
        for path in (files.process, files.end):
            path.unlink(missing_ok=True)
        self.store.write(replace(job, state="running", started=time.time(), num_starts=job.num_starts + 1))
        self._supervisors[job.number] = subprocess.Popen(
            supervisor_command(files.stem, list(job.command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=command_environment(),
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
