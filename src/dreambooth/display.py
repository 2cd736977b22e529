"""What a person sees: the only way a recipe speaks. Colour and bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = ["Display", "counted", "format_duration", "format_rate", "quoted"]

_PLAIN_SECONDS = 10.0  # without a terminal: a line at the end of a job, and before that no more often than this


def quoted(word: object) -> str:
    """A path or a prompt as it must be typed in a shell: in quotes when it has blanks or signs that mean something there."""
    return shlex.quote(str(word))


def format_duration(seconds: float) -> str:
    """Seconds as 12 s, 3:05 min or 2:15 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def format_rate(count: float, seconds: float, unit: str) -> str:
    """How fast `count` things of the plural name `unit` were done: 3.20 images/s, or 2.50 s for one when it is slower."""
    rate = count / max(seconds, 1e-9)
    return f"{rate:.2f} {unit}/s" if rate >= 1 or count == 0 else f"{1 / rate:.2f} s/{unit.removesuffix('s')}"


class Display:
    """Sentences, tables and progress on one console; `console` is there for views that draw themselves."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console() if console is None else console

    @classmethod
    def silent(cls) -> Display:
        """One that shows nothing, for processes beside the one that speaks."""
        return cls(Console(quiet=True))

    def say(self, text: str) -> None:
        """A line as it is: square brackets are not markup, and paths are not broken at the edge."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that says what may go wrong."""
        self.console.print(Text.assemble(("warning: ", "bold yellow"), (text, "yellow")), highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under column names; cells are wrapped to the width of the console, never cut."""
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    @contextmanager
    def progress(self, description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show how far a job of `total` things (plural name `unit`) is; call the yielded `advance(n)` after every n of them."""
        draw = self._bar if self.console.is_terminal else self._lines
        with draw(description, total, unit) as show:
            start, done = time.monotonic(), 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                seconds = time.monotonic() - start
                left = f"{format_duration((total - done) * seconds / max(done, 1))} left"
                show(done, f"{format_rate(done, seconds, unit)}, {left if done < total else format_duration(seconds)}")

            yield advance

    @contextmanager
    def _bar(self, description: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
        name, pace = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[pace]}")
        with Progress(name, BarColumn(), MofNCompleteColumn(), pace, console=self.console) as bar:
            task = bar.add_task(description, total=total, pace=unit)
            yield lambda done, pace: bar.update(task, completed=done, pace=pace)

    @contextmanager
    def _lines(self, description: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
        last = time.monotonic()

        def show(done: int, pace: str) -> None:
            nonlocal last
            if done >= total or time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                self.say(f"{description}: {done}/{total} {unit}, {pace}")

        yield show


def counted(num: int, what: str) -> str:
    """A number with its thing, as a person says it: 1 picture, 2 pictures."""
    return f"{num} {what}{'' if num == 1 else 's'}"
