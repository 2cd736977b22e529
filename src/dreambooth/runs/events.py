"""What happened in a run, one JSON object a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError
from dreambooth.files import write_text
from dreambooth.reading import parse_json

__all__ = ["EventLog", "EventRecords", "read_event_records", "read_events"]


@dataclass(frozen=True)
class EventRecords:
    """What a file of events holds."""

    events: list[dict[str, Any]]
    """Every whole event, oldest first."""
    num_damaged: int
    """Lines that hold no event. A last line without an end, as a crash leaves it, is not counted."""


def read_event_records(path: Path) -> EventRecords:
    """The events in a file; none where there is no file.

    A line that is no event is left out: damaged bytes, other JSON, no kind, step or time, values of another kind than written.
    Raises RunError when the file itself cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return EventRecords([], 0)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}", hint="Make it readable.") from error
    *whole, torn = [_event(line) for line in lines]
    events = [event for event in (*whole, torn) if event is not None]
    return EventRecords(events, sum(event is None for event in whole))


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of `read_event_records`."""
    return read_event_records(path).events


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line; None for anything else."""
    try:
        event = parse_json(line.decode())
    except ValueError:
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("event"), str) and _is_number(event.get("time"))
    if not is_event or not _is_step(event.get("step")) or not all(_is_number(event[name]) for name in _LOSSES & event.keys()):
        return None
    is_right = _RULES.get(event["event"])
    return event if is_right is None or is_right(event) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_STEPS


def _has_balances(event: Mapping[str, Any]) -> bool:
    subjects = event.get("subjects", {})
    return _has_balance(event) and isinstance(subjects, dict) and all(map(_has_balance, subjects.values()))


def _has_balance(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    parts, scores = ("fidelity", "prompt", "prior"), event.get("scores")
    has_parts = all(name in event and (event[name] is None or _is_number(event[name])) for name in parts)
    is_scored = isinstance(scores, dict) and all(map(_is_number, scores.values()))
    return has_parts and is_scored and _is_number(event.get("balance"))


def _has_choice(event: Mapping[str, Any]) -> bool:
    if "text" not in event:  # nothing was scored
        return True
    has_steps = _is_step(event.get("chosen")) and _is_step(event.get("best"))
    return has_steps and isinstance(event["text"], str) and isinstance(event.get("balances"), dict)


_LOSSES = frozenset({"loss", "instance_loss", "prior_loss"})
_MOST_STEPS = 2**53
_RULES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {"evaluation": _has_balances, "selection": _has_choice}
"""What the readers of an event rely on, by its kind."""


class EventLog:
    """Appends events to a file, each line flushed as it is written."""

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        """With `resume_step`, events of later steps are dropped first: those steps will be made again; -1 drops all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.num_damaged = 0
        """Lines that were dropped because they held no event."""
        if resume_step is not None:
            found = read_event_records(path)
            kept = [event for event in found.events if event["step"] <= resume_step]
            self.num_damaged = found.num_damaged
            write_text(path, "".join(json.dumps(event) + "\n" for event in kept))
        self._file = path.open("a", encoding="utf-8")

    def add(self, event: str, *, step: int, **values: Any) -> None:
        """Append one event with the time in seconds since 1970."""
        self._file.write(json.dumps({"event": event, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
