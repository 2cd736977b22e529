"""Server-sent events: the parts of a page that changed, rendered once for all pages that show the same project."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from dreambooth.errors import DreamboothError
from dreambooth.web.desk import Desk
from dreambooth.web.projects import Project
from dreambooth.web.run_scores import scores_file
from dreambooth.web.screen_train import live_parts

__all__ = ["LiveParts", "live_stream"]

_SECONDS = 0.5
_MOST_SHARE = 0.03  # of a core, for rendering one project
_SECONDS_OF_SILENCE = 15.0


class LiveParts:
    """The newest parts of each project; rendered at most as often as leaves the machine to the training."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._parts: dict[str, dict[str, str]] = {}
        self._signatures: dict[str, object] = {}
        self._next: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, project: Project, *, is_new: bool = False) -> dict[str, str]:
        """The parts of a project, each as the event that tells of it; up to date for a page that `is_new`.

        For others they may be as old as the next look: a page asks often, and there may be many.
        """
        if not is_new and time.monotonic() < self._next.get(project.name, 0.0):
            return self._parts.get(project.name, {})
        async with self._locks.setdefault(project.name, asyncio.Lock()):
            if is_new or time.monotonic() >= self._next.get(project.name, 0.0):
                started = time.monotonic()
                signature = await run_in_threadpool(self._signature, project)
                if signature != self._signatures.get(project.name):
                    parts = await run_in_threadpool(live_parts, self._desk, project)
                    self._parts[project.name] = {name: _event({"id": name, "html": html}) for name, html in parts.items()}
                    self._signatures[project.name] = signature
                took = time.monotonic() - started
                self._next[project.name] = time.monotonic() + max(_SECONDS, took / _MOST_SHARE)
            return self._parts.get(project.name, {})

    def _signature(self, project: Project) -> object:
        """Changes when anything that the parts show changes."""
        jobs = [job for job in self._desk.queue.store.of(project.name) if job.kind == "train"]
        run, newest = project.newest_run, jobs[-1] if jobs else None
        files = [] if run is None else [run.events, run.config, scores_file(run)]
        files += [] if newest is None else [self._desk.queue.store.files(newest.number).log]
        return newest, [(str(file), file.stat().st_size) for file in files if file.is_file()]


def live_stream(live: LiveParts, project: Project) -> StreamingResponse:
    """A stream for one open page: every part once, then those that changed."""

    async def events() -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        quiet_since = time.monotonic()
        while True:  # until the page is closed: then the response is cancelled
            try:
                parts = await live.of(project, is_new=not sent)
            except DreamboothError:  # the project was removed
                return
            for name, event in parts.items():
                if sent.get(name) != event:
                    sent[name], quiet_since = event, time.monotonic()
                    yield event
            if time.monotonic() - quiet_since > _SECONDS_OF_SILENCE:
                quiet_since = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _event(record: dict[str, Any]) -> str:
    return f"event: part\ndata: {json.dumps(record)}\n\n"
