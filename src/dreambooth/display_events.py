"""A display for programs: everything that a person would read, and every event of a training, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dreambooth.display import TrainingStatus

__all__ = ["EventsDisplay"]


class EventsDisplay:
    """Calls a function with a record for everything; records hold strings, numbers, lists and mappings, so JSON can hold them.

    The key `event` is the kind: `say` and `warn` with `text`; `table` with `title`, `columns` and `rows`; `progress` with
    `description`, `done`, `total` and `unit`; `training` with `step`, `last_step`, `time_left` and `rows`; or a kind of the
    run's own events, such as `step`, `validation`, `evaluation`, `preview`, `image_log`, `selection` and `checkpoint`.
    """

    def __init__(self, listen: Callable[[dict[str, Any]], None]) -> None:
        """`listen` is called in the thread that trains, and an error in it ends the training."""
        self._listen = listen

    def say(self, text: str) -> None:
        """A record of the sentence."""
        self._listen({"event": "say", "text": text})

    def warn(self, text: str) -> None:
        """A record of the warning."""
        self._listen({"event": "warn", "text": text})

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A record of the whole table."""
        self._listen({"event": "table", "title": title, "columns": list(columns), "rows": [list(row) for row in rows]})

    @contextmanager
    def progress(self, description: str, total: int, unit: str, *, parts: int = 1) -> Iterator[Callable[[int], None]]:
        """A record at the beginning, with 0 done, and one after each advance; `done` counts whole things."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._listen({"event": "progress", "description": description, "done": done // parts, "total": total, "unit": unit})

        advance(0)
        yield advance

    @contextmanager
    def training(self, *, first_step: int, last_step: int) -> Iterator[Callable[[TrainingStatus], None]]:
        """A record for each step, with the texts that a terminal would show."""

        def show(status: TrainingStatus) -> None:
            rows = {row.name: row.value for row in status.rows}
            record = {"event": "training", "step": status.step, "last_step": last_step, "time_left": status.time_left}
            self._listen({**record, "rows": rows})

        yield show

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """The record as it is in the run's events, without the time."""
        self._listen({"event": kind, **values})
