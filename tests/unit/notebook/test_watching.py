"""Training from a notebook: beginning and going on, interrupting, and failing in the training's own words."""

from __future__ import annotations

import _thread
import atexit
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreambooth.errors import RunError, SettingsError, TrainingError
from dreambooth.notebook import watching
from dreambooth.notebook.watching import is_finished, log_of, train, training_command
from dreambooth.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "rex")


def _begin(run: RunFolder, *, steps: int, done: int, has_model: bool) -> None:
    run.path.mkdir(parents=True)
    run.config.write_text(f"loop: {{steps: {steps}}}\n", encoding="utf-8")
    events = [{"event": "step", "step": step, "time": step, "instance_loss": 0.1} for step in range(1, done + 1)]
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    if has_model:
        run.final_model.touch()


def _replace_training(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(watching, "training_command", lambda *_: [sys.executable, "-u", "-c", script])
    monkeypatch.setattr(watching, "_SECONDS", 0.05)


def test_files_where_the_notebook_does_not_look_are_refused(run: RunFolder) -> None:
    with pytest.raises(SettingsError, match="file_layout writes the file names of other programs"):
        train(run.path, file_layout="xavierxiao")
    assert not run.path.exists()


def test_a_folder_without_a_run_begins_one(run: RunFolder) -> None:
    line = training_command(run, {"preset": "face", "class_word": "man"})
    assert line[3:] == ["train", "--preset=face", "--class-word=man", f"--output={run.path}"]


def test_a_folder_with_a_run_goes_on_and_gives_the_settings_again(run: RunFolder) -> None:
    _begin(run, steps=8, done=3, has_model=False)
    line = training_command(run, {"preset": "face", "class_word": "man", "steps": 9})
    assert line[3:] == ["train", f"--resume={run.path}", "--class-word=man", "--steps=9"]


def test_a_run_is_finished_when_its_last_step_is_done_and_its_model_stands(run: RunFolder) -> None:
    assert not is_finished(run)
    _begin(run, steps=4, done=4, has_model=True)
    assert is_finished(run)
    assert is_finished(run, 4)
    assert not is_finished(run, 5), "more steps are asked for"
    run.final_model.unlink()
    assert not is_finished(run)


def test_the_model_of_an_earlier_last_step_is_not_the_end(run: RunFolder) -> None:
    _begin(run, steps=8, done=5, has_model=True)
    assert not is_finished(run)


def test_a_finished_run_is_not_started_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _begin(run, steps=4, done=4, has_model=True)
    _replace_training(monkeypatch, "raise SystemExit(1)")
    train(run.path, steps=4)
    assert not log_of(run).exists()


def test_without_settings_and_without_a_run_there_is_nothing_to_go_on_with(run: RunFolder) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        train(run.path)


def test_a_failure_is_raised_in_the_trainings_own_words(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_training(
        monkeypatch, "print('loading'); print('error: out of memory'); print('Try --micro-batch-size 1'); exit(1)"
    )
    with pytest.raises(TrainingError) as raised:
        train(run.path, steps=3)
    assert str(raised.value) == f"error: out of memory\nTry --micro-batch-size 1\nThe full output is in {log_of(run)}."


def test_interrupting_once_lets_the_training_save(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_training(
        monkeypatch,
        "import signal, sys, time\n"
        "asked = []\n"
        "signal.signal(signal.SIGINT, lambda *_: asked.append(1))\n"
        "print('ready')\n"
        "while not asked: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "print('Stopped. The run is saved at step 7,', len(asked), 'signal'); sys.exit(130)\n",
    )

    def interrupt_when_ready() -> None:
        while not log_of(run).exists() or "ready" not in log_of(run).read_text(encoding="utf-8"):
            time.sleep(0.01)
        _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    threading.Thread(target=interrupt_when_ready, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt, match=r"saved at step 7, 1 signal\nRun this cell again to resume"):
            train(run.path, steps=10)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_that_was_told_to_stop_by_the_machine_is_no_failure(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_training(monkeypatch, "print('Stopped.'); exit(143)")
    with pytest.raises(KeyboardInterrupt, match=r"Stopped\."):
        train(run.path, steps=10)


KERNEL = """
import sys, threading, time
from pathlib import Path
from dreambooth.notebook import watching

folder, script = Path(sys.argv[1]), sys.argv[2]
watching.training_command = lambda *_: [sys.executable, "-u", "-c", script]
threading.Thread(target=watching.train, args=(folder,), kwargs={"steps": 10}, daemon=True).start()
log = watching.log_of(watching.RunFolder(folder))
while not log.exists() or "ready" not in log.read_text(encoding="utf-8"):
    time.sleep(0.01)
"""


def test_a_kernel_that_is_shut_down_lets_the_training_save(run: RunFolder) -> None:
    script = (
        "import signal, sys, time\n"
        "def save(*_):\n    print('saved'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\nprint('ready')\ntime.sleep(10)\nprint('nobody asked')"
    )
    subprocess.run([sys.executable, "-c", KERNEL, str(run.path), script], check=True, timeout=60)
    deadline = time.monotonic() + 20
    while len(said := log_of(run).read_text(encoding="utf-8").split("\n")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert said[:2] == ["ready", "saved"]


def test_a_training_that_has_ended_is_not_asked_to_stop(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_training(monkeypatch, "print('done')")
    registered: list[object] = []
    at_exit: list[object] = []

    def register(function: object) -> None:
        registered.append(function)
        at_exit.append(function)

    monkeypatch.setattr(atexit, "register", register)
    monkeypatch.setattr(atexit, "unregister", at_exit.remove)
    train(run.path, steps=10)
    assert (len(registered), at_exit) == (1, [])
