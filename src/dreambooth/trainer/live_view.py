"""The live view of training: losses, speed, memory and the time left, computed here and drawn by the display."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType

from dreambooth.display import Display, Row, TrainingStatus, format_duration, format_rate
from dreambooth.runs.progress import Smoothed
from dreambooth.training.loop import StepResult

__all__ = ["LiveView"]

_RATE_WINDOW = 50  # steps over which the rate is measured
_DETAILS = ("gradient norm", "learning rate")


class LiveView:
    """Shows steps, losses, speed, memory and the time left. Use as a context manager around the loop."""

    def __init__(self, display: Display, *, first_step: int, last_step: int, peak_memory: Callable[[], int]) -> None:
        self._display = display
        self.first_step = first_step
        self._last_step = last_step
        self._peak_memory = peak_memory
        self._smoothed = {"photos": Smoothed(), "class": Smoothed()}
        self._times: deque[tuple[float, int, int]] = deque([(time.monotonic(), first_step, 0)], maxlen=_RATE_WINDOW)
        self._num_images = 0
        self._rows: dict[str, str] = {}
        self._drawing = ExitStack()
        self._show: Callable[[TrainingStatus], None] | None = None

    def __enter__(self) -> LiveView:
        """Start drawing."""
        shown = self._display.training(first_step=self.first_step, last_step=self._last_step)
        self._show = self._drawing.enter_context(shown)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop drawing; the last state stays on screen."""
        self._drawing.close()

    def step(self, result: StepResult, when: float) -> None:
        """Show one update; `when` is its time on the monotonic clock, in seconds."""
        assert self._show is not None, "used as a context manager"
        self._num_images += result.num_images
        self._times.append((when, result.step, self._num_images))
        losses = {"photos": result.instance_loss}
        if result.prior_loss is not None:
            losses["class"] = result.prior_loss
        for name, value in losses.items():
            self._rows[f"loss {name}"] = f"{self._smoothed[name].add(value):.4f}  (now {value:.4f})"
        self._rows["gradient norm"] = f"{result.gradient_norm:.3g}"
        self._rows["learning rate"] = ", ".join(f"{name} {rate:.2e}" for name, rate in result.learning_rates.items())
        self._rows["speed"], remaining = self._speed(result.step)
        self._rows["time left"] = format_duration(remaining)
        if (peak := self._peak_memory()) > 0:
            self._rows["peak memory"] = f"{peak / 2**30:.2f} GiB"
        rows = (Row(name, value, is_detail=name in _DETAILS) for name, value in self._rows.items())
        self._show(TrainingStatus(result.step, self._rows["time left"], tuple(rows)))

    def validation(self, losses: Mapping[str, float]) -> None:
        """Show the losses on fixed noise."""
        names = {"instance": "photos", "prior": "class"}
        self._rows["validation"] = "  ".join(f"{names[role]} {value:.4f}" for role, value in losses.items())

    def balance(self, value: float) -> None:
        """Show the balance of the subject, prompt and class scores."""
        self._rows["balance"] = f"{value:.3f}"

    def leave_out(self, seconds: float) -> None:
        """Exclude time spent on previews and validation from the training speed."""
        self._times = deque(((when + seconds, step, images) for when, step, images in self._times), maxlen=_RATE_WINDOW)

    def say(self, text: str) -> None:
        """Print a line above the live table."""
        self._display.say(text)

    def _speed(self, step: int) -> tuple[str, float]:
        (start, first, images), (end, _, all_images) = self._times[0], self._times[-1]
        seconds = max(end - start, 1e-9)
        speed = f"{format_rate(step - first, seconds, 'steps')}, {(all_images - images) / seconds:.2f} images/s"
        return speed, (self._last_step - step) * seconds / (step - first)
