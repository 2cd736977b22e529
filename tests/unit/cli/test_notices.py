"""`--notify`: a webhook or a program hears how a command ended, and nothing that goes wrong there changes the command."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth.cli.notices import check_target, with_notice
from dreambooth.display import Display
from dreambooth.errors import Interrupted, SettingsError, TrainingError

SECRET = "/services/T0/secret-token"


@dataclass
class Hook:
    """A webhook on this machine, and what it was sent."""

    address: str = ""
    answer: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            found.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.answer)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}{SECRET}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def tell(target: str | None, work: Callable[[], Any], display: Display) -> Any:
    return with_notice(target, "dreambooth train", "runs/rex", work, display)


def raises(error: BaseException) -> Callable[[], Any]:
    def work() -> None:
        raise error

    return work


def test_a_webhook_hears_that_a_run_is_finished(hook: Hook, display: Display, said: Callable[[], str]) -> None:
    result = SimpleNamespace(model=Path("model"))
    assert tell(hook.address, lambda: result, display) is result
    (notice,) = hook.received
    assert notice.pop("seconds") >= 0 and notice.pop("host")
    text = "dreambooth train (runs/rex) finished"
    assert notice == {
        **{"event": "finished", "command": "dreambooth train", "run": "runs/rex", "reason": "", "text": text, "content": text}
    }
    assert said() == ""


@pytest.mark.parametrize(
    ("work", "event", "reason"),
    [
        (lambda: SimpleNamespace(model=None), "stopped", "the time limit was reached"),
        (raises(Interrupted("Stopped at step 3.", exit_code=130)), "stopped", "Stopped at step 3."),
        (raises(KeyboardInterrupt()), "stopped", "KeyboardInterrupt"),
        (raises(TrainingError("the loss is not finite", hint="Lower it.")), "failed", "the loss is not finite\nLower it."),
        (
            raises(SettingsError(["steps is 0", "photos is missing\n  Give a folder."], hint="See `dreambooth train --help`.")),
            "failed",
            "2 problems\n- steps is 0\n- photos is missing",
        ),
        (raises(OSError(28, "No space left")), "failed", "OSError: [Errno 28] No space left"),
    ],
)
def test_a_webhook_hears_why_a_run_ended(
    hook: Hook, display: Display, work: Callable[[], Any], event: str, reason: str
) -> None:
    try:
        tell(hook.address, work, display)
    except BaseException as error:
        assert not isinstance(error, AssertionError)
    (notice,) = hook.received
    assert (notice["event"], notice["reason"]) == (event, reason)
    assert notice["text"] == f"dreambooth train (runs/rex) {event}: {reason}"


def test_a_webhook_that_fails_changes_nothing_and_its_address_is_not_shown(
    hook: Hook, display: Display, said: Callable[[], str]
) -> None:
    hook.answer = 500
    assert tell(hook.address, lambda: 3, display) == 3
    assert said() == "warning: --notify: 127.0.0.1 was not told that the command finished: it answered 500\n"
    with pytest.raises(TrainingError):
        tell(f"http://127.0.0.1:1{SECRET}", raises(TrainingError("why")), display)
    assert "127.0.0.1 was not told that the command failed: Connection refused" in said()
    assert "secret" not in said()


def test_a_program_reads_the_notice_without_a_shell(tmp_path: Path, display: Display, said: Callable[[], str]) -> None:
    out, script = tmp_path / "out.json", tmp_path / "tell me.py"
    lines = ["import os, sys", "notice, event = sys.stdin.read(), os.environ['DREAMBOOTH_EVENT']"]
    script.write_text("\n".join([*lines, "open(sys.argv[1], 'w').write(f'{notice}|{event}')"]))
    command = shlex.join([sys.executable, str(script), str(out)]) + " '; touch harm' $(touch harm)"
    check_target(command)
    tell(command, lambda: 3, display)
    notice, event = out.read_text().split("|")
    assert json.loads(notice)["event"] == event == "finished"
    assert not (tmp_path / "harm").exists() and not Path("harm").exists()
    assert said() == ""


def test_a_program_that_fails_changes_nothing(display: Display, said: Callable[[], str]) -> None:
    assert tell(shlex.join([sys.executable, "-c", "raise SystemExit(7)"]), lambda: 3, display) == 3
    assert said().endswith("was told that the command finished, and ended with exit code 7\n")


def test_one_of_several_processes_tells(hook: Hook, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert tell(hook.address, lambda: 3, display) == 3
    monkeypatch.setenv("RANK", "0")
    tell(None, lambda: 3, display)
    assert hook.received == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("https://", "the address has no host"),
        ("", "no program '' was found"),
        ("no-such-program --loud", "no program 'no-such-program' was found; give the address of a webhook"),
        ("echo 'half", "cannot be split into words: a quote is not closed"),
    ],
)
def test_targets_that_could_not_be_told(target: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_target(target)
