"""Signals: the first asks, the second quits at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from dreambooth.errors import Interrupted
from dreambooth.runtime import interrupts as interrupts_module
from dreambooth.runtime.interrupts import Interrupts, process_survives, raise_if_interrupted

HANGUP = [] if sys.platform == "win32" else [(signal.SIGHUP, 129)]
has_hangup = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), *HANGUP])
def test_outside_a_step_the_signal_stops_on_the_spot(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="nothing was lost") as caught, Interrupts(lambda: "nothing was lost"):
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


def test_inside_a_step_the_signal_waits() -> None:
    with Interrupts(lambda: "saved") as interrupts:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.requested is signal.SIGTERM
        assert interrupts.error().exit_code == 143
        assert interrupts.error().text == "saved"


def test_a_signal_that_waits_is_acknowledged_at_once_and_once() -> None:
    program = (
        "import os, signal, time\n"
        "from dreambooth.runtime.interrupts import Interrupts\n"
        "with Interrupts(lambda: 'x') as interrupts, interrupts.deferred('Stopping soon.'):\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(0.5); os.write(2, b'still at it\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=20, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "Stopping soon.\nstill at it\n")


def test_nothing_is_acknowledged_without_a_signal_or_without_words(capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts(lambda: "x") as interrupts, interrupts.deferred("Stopping soon."):
        pass
    with Interrupts(lambda: "x") as interrupts, interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_the_second_signal_quits_at_once() -> None:
    program = (
        "import os, signal, time\n"
        "from dreambooth.runtime.interrupts import Interrupts\n"
        "with Interrupts(lambda: 'x') as interrupts, interrupts.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(1.1); os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=20).returncode == 130


def test_the_second_signal_leaves_a_process_that_must_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts_module, "_REPEAT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), process_survives(), Interrupts(lambda: "x") as interrupts, interrupts.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_no_library_takes_a_stop_for_an_error_of_its_own() -> None:
    def read() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Exception as error:
            raise OSError("a damaged file") from error

    with pytest.raises(Interrupted), Interrupts(lambda: "stopped"):
        read()


def test_a_stop_that_came_out_as_another_error_or_not_at_all_is_raised_at_the_end() -> None:
    def swallow(*, as_error: bool) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException as error:
            if as_error:
                raise ImportError("a library failed to load") from error

    for as_error in (True, False):
        with pytest.raises(Interrupted, match="stopped"), Interrupts(lambda: "stopped"):
            swallow(as_error=as_error)


def test_slow_work_notices_a_stop_that_was_swallowed() -> None:
    with pytest.raises(Interrupted, match="inner"), Interrupts(lambda: "outer"), Interrupts(lambda: "inner"):
        raise_if_interrupted()
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        raise_if_interrupted()
        pytest.fail("the work went on")
    raise_if_interrupted()


def test_a_stop_that_waits_is_left_to_the_caller() -> None:
    with Interrupts(lambda: "saved") as interrupts, interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise_if_interrupted()
    assert interrupts.requested is signal.SIGTERM


def test_a_stop_that_was_swallowed_before_the_work_began_stops_it() -> None:
    with pytest.raises(Interrupted, match="command"), Interrupts(lambda: "command"):
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
        with Interrupts(lambda: "recipe"):
            pytest.fail("the work began")


def test_ctrl_c_while_the_command_itself_is_loaded_shows_no_traceback() -> None:
    program = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'dreambooth.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from dreambooth.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=20, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@has_hangup
def test_a_lost_terminal_asks_once_however_many_signals_come_and_is_not_written_to() -> None:
    program = (
        "import sys, time\n"
        "from dreambooth.runtime.interrupts import Interrupts\n"
        "with Interrupts(lambda: 'x') as interrupts, interrupts.deferred('Stopping soon.'):\n"
        "    print('begun', flush=True)\n"
        "    while interrupts.requested is None: time.sleep(0.01)\n"
        "    print('a step', flush=True); time.sleep(0.1); print('saved', flush=True)\n"
        "sys.exit(interrupts.error().exit_code)\n"
    )
    leader, terminal = os.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        assert os.read(leader, 100).startswith(b"begun")
        os.close(leader)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 129


@has_hangup
def test_a_hangup_is_ignored_where_it_was_before() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda: "x") as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_that_arrives_twice_is_one() -> None:
    """Ctrl-C reaches every process of a group, and a launcher passes on what it got: the second one quit without saving."""
    with Interrupts(lambda: "saved") as interrupts:
        with interrupts.deferred():
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
        assert interrupts.requested is signal.SIGINT


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize(("name", "asked"), [("SIGUSR1", "save"), ("SIGUSR2", "previews")])
def test_usr1_and_usr2_ask_once_and_elsewhere_do_nothing(name: str, asked: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Interrupts(lambda: "x") as interrupts:
        os.kill(os.getpid(), number)
        assert interrupts.take_requests() == frozenset()
        with interrupts.deferred():
            os.kill(os.getpid(), number)
            assert interrupts.requested is None
            assert [interrupts.take_requests(), interrupts.take_requests()] == [{asked}, frozenset()]
    assert signal.getsignal(number) is before
