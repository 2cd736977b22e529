"""What happened in a run, one JSON object a line, and the same numbers for TensorBoard when asked."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.errors import SettingsError
from dreambooth.files import write_text

__all__ = ["EventLog", "NoTensorBoard", "TensorBoard", "check_tensorboard", "read_events"]


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every complete event in the file, oldest first; a last line that was cut off by a crash is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


class EventLog:
    """Appends events to a file, each line flushed as it is written."""

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        """With `resume_step`, events of later steps are dropped first: those steps will be made again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume_step is not None:
            kept = [event for event in read_events(path) if event["step"] <= resume_step]
            write_text(path, "".join(json.dumps(event) + "\n" for event in kept))
        self._file = path.open("a", encoding="utf-8")

    def add(self, event: str, *, step: int, **values: Any) -> None:
        """Append one event with the time in seconds since 1970."""
        self._file.write(json.dumps({"event": event, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_tensorboard() -> None:
    """Raise SettingsError when TensorBoard's writer is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise SettingsError("tensorboard is on, but its package is not installed", hint="Type: pip install tensorboard")


class TensorBoard:
    """Writes numbers through torch's SummaryWriter."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point for every name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class NoTensorBoard:
    """Stands where no TensorBoard is wanted."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing to close."""
