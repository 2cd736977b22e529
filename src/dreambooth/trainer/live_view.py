"""What a person sees while training runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dreambooth.display import Display, format_duration, format_rate
from dreambooth.runs.progress import Smoothed
from dreambooth.training.loop import StepResult

__all__ = ["LiveView"]

_PLAIN_SECONDS = 10.0  # a plain line at the first and the last step, and otherwise no more often than this


_RATE_WINDOW = 50  # steps over which the rate is measured


class LiveView:
    """Shows steps, losses, speed, memory and the time left. Use as a context manager around the loop."""

    def __init__(self, display: Display, *, first_step: int, last_step: int, peak_memory: Callable[[], int]) -> None:
        self._display = display
        console = display.console
        self.first_step = first_step
        self._last_step = last_step
        self._peak_memory = peak_memory
        self._smoothed = {"photos": Smoothed(), "class": Smoothed()}
        self._times: deque[tuple[float, int, int]] = deque([(time.monotonic(), first_step, 0)], maxlen=_RATE_WINDOW)
        self._num_images = 0
        self._last_plain = 0.0
        self._rows: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("training", total=last_step, completed=first_step, rate="")
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None

    def __enter__(self) -> LiveView:
        """Start drawing."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop drawing; the last state stays on the screen."""
        if self._live is not None:
            self._live.stop()

    def step(self, result: StepResult, when: float) -> None:
        """Show what one update did; `when` is its time on the monotonic clock, in seconds."""
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
        self._draw(result.step)

    def validation(self, losses: Mapping[str, float]) -> None:
        """Show the losses on fixed noise."""
        names = {"instance": "photos", "prior": "class"}
        self._rows["validation"] = "  ".join(f"{names[role]} {value:.4f}" for role, value in losses.items())

    def balance(self, value: float) -> None:
        """Show how the scores of the subject, the prompts and the class add up."""
        self._rows["balance"] = f"{value:.3f}"

    def leave_out(self, seconds: float) -> None:
        """Take time that went into previews and validation out of the speed of training."""
        self._times = deque(((when + seconds, step, images) for when, step, images in self._times), maxlen=_RATE_WINDOW)

    def say(self, text: str) -> None:
        """A line above the live table."""
        self._display.say(text)

    def _speed(self, step: int) -> tuple[str, float]:
        (start, first, images), (end, _, all_images) = self._times[0], self._times[-1]
        seconds = max(end - start, 1e-9)
        speed = f"{format_rate(step - first, seconds, 'steps')}, {(all_images - images) / seconds:.2f} images/s"
        return speed, (self._last_step - step) * seconds / (step - first)

    def _draw(self, step: int) -> None:
        if self._live is not None:
            self._progress.update(self._task, completed=step, rate=f"{self._rows['time left']} left")
            table = Table.grid(padding=(0, 2))
            for name, value in self._rows.items():
                table.add_row(f"[dim]{name}[/dim]", value)
            self._live.update(Group(self._progress, table))
            return
        now = time.monotonic()
        if step in (self.first_step + 1, self._last_step) or now - self._last_plain >= _PLAIN_SECONDS:
            self._last_plain = now
            shown = (f"{name} {value}" for name, value in self._rows.items() if name not in ("gradient norm", "learning rate"))
            self.say(f"step {step}/{self._last_step}  " + "  ".join(shown))
