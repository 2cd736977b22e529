"""What a person sees: bars and colour on a terminal, plain lines elsewhere, nothing cut and no markup read into names."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from dreambooth.display import format_duration, format_rate, quoted
from dreambooth.display_console import ConsoleDisplay
from dreambooth.display_events import EventsDisplay


def _display(*, is_terminal: bool = False, width: int = 80) -> tuple[ConsoleDisplay, io.StringIO]:
    out = io.StringIO()
    return ConsoleDisplay(
        Console(file=out, width=width, force_terminal=is_terminal, color_system="standard" if is_terminal else None)
    ), out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_sentences_are_printed_as_they_are() -> None:
    display, out = _display(width=20)
    display.say("runs/[bold]rex[/bold]/" + "long" * 10)
    assert out.getvalue() == "runs/[bold]rex[/bold]/" + "long" * 10 + "\n"


def test_warnings_say_that_they_are_and_are_yellow_on_a_terminal() -> None:
    display, out = _display()
    display.warn("only 2 photos [x]")
    assert out.getvalue() == "warning: only 2 photos [x]\n"
    display, out = _display(is_terminal=True)
    display.warn("only 2 photos")
    assert "\x1b[33m" in out.getvalue()


def test_names_and_words_cannot_control_the_terminal() -> None:
    display, out = _display()
    hostile = "a\x1b]0;owned\x07\x1b[2J[red]b"
    display.say(hostile)
    display.warn(hostile)
    display.table(hostile, ["photo"], [[hostile]])
    with display.progress(hostile, 1, "images") as advance:
        advance(1)
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()
    assert out.getvalue().count(r"a\x1b]0;owned\x07\x1b[2J[red]b") == 5


def test_tables_fit_80_columns_and_lose_nothing() -> None:
    display, out = _display()
    name = "photos/" + "very_long_name" * 6 + ".jpg"
    display.table("Photos", ["photo", "problem", "advice"], [[name, "smaller than 512 pixels [x]", "take another " * 5]])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "Photos"
    assert name == "".join(line.split()[0] for line in lines[3:] if not line.startswith(" "))
    assert "[x]" in out.getvalue()


def test_without_a_terminal_progress_is_a_line_now_and_then(clock: list[float]) -> None:
    display, out = _display()
    with display.progress("class images", 8, "images") as advance:
        for _ in range(4):
            clock[0] += 4.0
            advance(2)
    assert out.getvalue().splitlines() == [
        "class images: 6/8 images, 2.00 s/image, 4 s left",
        "class images: 8/8 images, 2.00 s/image, 16 s",
    ]


def test_on_a_terminal_progress_is_a_bar() -> None:
    display, out = _display(is_terminal=True)
    with display.progress("class [x]", 4, "images") as advance:
        advance(4)
    assert "class [x]" in out.getvalue()
    assert "4/4" in out.getvalue()
    assert "━" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (3599, "59:59 min"), (3600, "1:00 h"), (9000, "2:30 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "seconds", "text"),
    [(8, 4, "2.00 images/s"), (2, 5, "2.50 s/image"), (0, 5, "0.00 images/s"), (3, 0, "3000000000.00 images/s")],
)
def test_rates(count: float, seconds: float, text: str) -> None:
    assert format_rate(count, seconds, "images") == text


def test_a_command_can_be_typed_again_whatever_its_names() -> None:
    assert quoted("runs/rex") == "runs/rex"
    assert quoted("photo of a 狗") == "'photo of a 狗'"
    odd = "it's \udce9\\n"
    assert quoted(odd) == r"$'it\'s \xe9\\n'"
    if shell := shutil.which("bash"):
        command = [shell, "-c", f"printf %s {quoted(odd)}"]
        assert subprocess.run(command, check=True, capture_output=True).stdout == os.fsencode(odd)


def test_things_that_are_done_in_parts_are_counted_whole(clock: list[float]) -> None:
    display, out = _display()
    with display.progress("class images", 2, "images", parts=50) as advance:
        for count in (25, 50, 25):
            clock[0] += 10.0
            advance(count)
    assert out.getvalue().splitlines() == [
        "class images: 0/2 images, 20.00 s/image, 30 s left",
        "class images: 1/2 images, 13.33 s/image, 7 s left",
        "class images: 2/2 images, 15.00 s/image, 30 s",
    ]


def test_an_event_counts_whole_things_as_well() -> None:
    records: list[Any] = []
    with EventsDisplay(records.append).progress("class images", 2, "images", parts=4) as advance:
        advance(6)
        advance(2)
    assert [(record["done"], record["total"]) for record in records] == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no termios")
def test_a_bar_keeps_the_terminal_from_printing_ctrl_c_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty
    import termios

    main, second = pty.openpty()

    def prints_control() -> bool:
        return bool(termios.tcgetattr(second)[3] & termios.ECHOCTL)

    with os.fdopen(main), os.fdopen(second) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert prints_control()
        with pytest.raises(KeyboardInterrupt), _display(is_terminal=True)[0].progress("images", 2, "images"):
            assert not prints_control()
            raise KeyboardInterrupt
        assert prints_control(), "as it was before"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no termios")
def test_a_terminal_that_is_closed_below_a_bar_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    main, second = pty.openpty()
    with os.fdopen(second) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with _display(is_terminal=True)[0].progress("images", 2, "images"):
            os.close(main)


def test_work_goes_on_when_nobody_reads_any_more() -> None:
    program = (
        "import os\n"
        "from dreambooth.display_console import ConsoleDisplay\n"
        "display = ConsoleDisplay()\n"
        "for line in range(3): display.say(str(line))\n"
        "os.write(2, b'saved')\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run([sys.executable, "-c", program], check=False, timeout=20, stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"saved")
