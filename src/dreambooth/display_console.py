"""A display on a console: color and bars on a terminal, plain lines elsewhere.

What is shown may hold names of files and words of other people: characters that control a terminal are escaped here, for all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dreambooth.display import TrainingStatus, format_duration, format_rate
from dreambooth.display_wrapping import wrapped
from dreambooth.reading import without_controls

__all__ = ["ConsoleDisplay"]

_PLAIN_SECONDS = 10.0  # without a terminal: a line at the end of a job, and before that no more often than this


class ConsoleDisplay:
    """Sentences, tables and progress on one console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = _LastingConsole() if console is None else console

    def say(self, text: str) -> None:
        """A line as it is: square brackets are not markup, and paths are not broken at the edge."""
        self.console.print(without_controls(text), markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that says what may go wrong."""
        label = "warning: "
        message = wrapped(without_controls(text), self.console.width if self.console.is_terminal else None, start=len(label))
        self.console.print(Text.assemble((label, "bold yellow"), (message, "yellow")), highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under column names; cells are wrapped to the width of the console, never cut."""
        heading = Text(without_controls(title))
        table = Table(title=heading, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(Text(without_controls(column)), overflow="fold")
        for row in rows:
            table.add_row(*(Text(without_controls(cell)) for cell in row))
        self.console.print(table)

    @contextmanager
    def progress(self, description: str, total: int, unit: str, *, parts: int = 1) -> Iterator[Callable[[int], None]]:
        """A bar, or a line now and then, with the rate and the time left."""
        draw = self._bar if self.console.is_terminal else self._lines
        with draw(description, total, unit) as show:
            start, done_parts = time.monotonic(), 0

            def advance(count: int) -> None:
                nonlocal done_parts
                done_parts += count
                done = done_parts / parts
                seconds = time.monotonic() - start
                left = f"{format_duration((total - done) * seconds / max(done, 1 / parts))} left"
                show(done, f"{format_rate(done, seconds, unit)}, {left if done < total else format_duration(seconds)}")

            yield advance

    @contextmanager
    def _bar(self, description: str, total: int, unit: str) -> Iterator[Callable[[float, str], None]]:
        name, pace = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[pace]}")
        with _unechoed(), Progress(name, BarColumn(), MofNCompleteColumn(), pace, console=self.console) as bar:
            task = bar.add_task(without_controls(description), total=total, pace=unit)
            yield lambda done, pace: bar.update(task, completed=done, pace=pace)

    @contextmanager
    def _lines(self, description: str, total: int, unit: str) -> Iterator[Callable[[float, str], None]]:
        last = time.monotonic()

        def show(done: float, pace: str) -> None:
            nonlocal last
            if done >= total or time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                self.say(f"{description}: {int(done)}/{total} {unit}, {pace}")

        yield show

    @contextmanager
    def training(self, *, first_step: int, last_step: int) -> Iterator[Callable[[TrainingStatus], None]]:
        """A live table; or a line for the first and the last step, and between them no more often than every 10 seconds."""
        with (self._live_table if self.console.is_terminal else self._step_lines)(first_step, last_step) as show:
            yield show

    @contextmanager
    def _live_table(self, first_step: int, last_step: int) -> Iterator[Callable[[TrainingStatus], None]]:
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        progress = Progress(*columns, TimeElapsedColumn(), console=self.console)
        task = progress.add_task("training", total=last_step, completed=first_step, left="")
        with _unechoed(), Live(console=self.console, refresh_per_second=4, transient=False) as live:

            def show(status: TrainingStatus) -> None:
                progress.update(task, completed=status.step, left=f"{status.time_left} left")
                table = Table.grid(padding=(0, 2))
                for row in status.rows:
                    table.add_row(f"[dim]{row.name}[/dim]", row.value)
                live.update(Group(progress, table))

            yield show

    @contextmanager
    def _step_lines(self, first_step: int, last_step: int) -> Iterator[Callable[[TrainingStatus], None]]:
        last = 0.0

        def show(status: TrainingStatus) -> None:
            nonlocal last
            now = time.monotonic()
            if status.step in (first_step + 1, last_step) or now - last >= _PLAIN_SECONDS:
                last = now
                rows = (f"{row.name} {row.value}" for row in status.rows if not row.is_detail)
                self.say(f"step {status.step}/{last_step}  " + "  ".join(rows))

        yield show

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        """Not shown: a person reads the table and the sentences."""


class _LastingConsole(Console):
    """A console whose reader may leave, as `head` does: the work goes on unseen and is saved."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _unechoed() -> Iterator[None]:
    """Inside, the terminal does not print ^C, which would break the line of a bar in two so that it is drawn twice."""
    try:
        import termios

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (ImportError, OSError, ValueError, AttributeError, termios.error):  # Windows, or no terminal to read from
        yield
        return
    *first, local_modes, speed_in, speed_out, characters = before
    termios.tcsetattr(terminal, termios.TCSADRAIN, [*first, local_modes & ~termios.ECHOCTL, speed_in, speed_out, characters])
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may have been closed meanwhile
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
