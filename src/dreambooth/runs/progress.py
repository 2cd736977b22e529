"""How far a run is, read from what it writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth.config import read_yaml
from dreambooth.errors import SettingsError
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder

__all__ = ["Curve", "Progress", "Smoothed", "asked_steps", "preview_pictures", "read_progress"]

_WINDOW = 50  # step events over which the speed is measured
_NAMES = {"instance": "photos", "prior": "class"}

Curve = tuple[tuple[int, float], ...]
"""Pairs of a step and a value, in the order of the steps."""


class Smoothed:
    """A running mean that forgets: an exponential average with the bias of its start removed (arXiv 1412.6980, section 3)."""

    def __init__(self, decay: float = 0.95) -> None:
        self._decay = decay
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> float:
        """Take in a value; the average so far."""
        self._sum = self._decay * self._sum + (1 - self._decay) * value
        self._weight = self._decay * self._weight + (1 - self._decay)
        return self._sum / self._weight


@dataclass(frozen=True)
class Progress:
    """What has happened so far in a run."""

    step: int
    """The last update that was written down; 0 before the first."""
    losses: Mapping[str, Curve]
    """Losses of photos and class images, smoothed as on the command line."""
    validation: Mapping[str, Curve]
    """The same on fixed noise."""
    seconds_per_step: float | None
    """None until two updates in a row are known."""
    preview_steps: tuple[int, ...]


def read_progress(run: RunFolder, *, since: float = 0.0) -> Progress:
    """What the run's events say; a line that is still being written is left for the next time.

    The speed is that of updates after `since`, in seconds since 1970: between a stop and going on lies no training.
    """
    events = read_events(run.events)
    steps = [event for event in events if event["event"] == "step"]
    validations = [event for event in events if event["event"] == "validation"]
    return Progress(
        step=steps[-1]["step"] if steps else 0,
        losses={name: _smooth(_curve(steps, role)) for role, name in _NAMES.items()},
        validation={name: _curve(validations, role) for role, name in _NAMES.items()},
        seconds_per_step=_seconds_per_step([event for event in events if event["time"] >= since]),
        preview_steps=tuple(dict.fromkeys(event["step"] for event in events if event["event"] == "preview")),
    )


def _curve(events: Sequence[Mapping[str, Any]], role: str) -> Curve:
    return tuple((event["step"], event[f"{role}_loss"]) for event in events if f"{role}_loss" in event)


def _smooth(curve: Curve) -> Curve:
    smoothed = Smoothed()
    return tuple((step, smoothed.add(value)) for step, value in curve)


def _seconds_per_step(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Over the newest updates. The time around another event is left out: it went into previews, validation or saving."""
    seconds, count = 0.0, 0
    for earlier, later in zip(events[-2::-1], events[:0:-1], strict=True):
        if earlier["event"] == later["event"] == "step":
            seconds += later["time"] - earlier["time"]
            count += 1
        if count == _WINDOW:
            break
    return seconds / count if count and seconds > 0 else None


def asked_steps(run: RunFolder) -> int | None:
    """The last step of the run by its settings; None while there are none, or none that can be read."""
    if not run.config.is_file():
        return None
    with suppress(SettingsError):
        loop = read_yaml(run.config).get("loop")
        steps = loop.get("steps") if isinstance(loop, dict) else None
        return steps if type(steps) is int else None
    return None


def preview_pictures(run: RunFolder, step: int) -> list[Path]:
    """The preview pictures of a step in the order of their prompts; empty where none were made."""
    return sorted(run.previews_at(step).glob("*.png"))
