"""What a run says about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dreambooth.errors import Interrupted, TrainingError
from dreambooth.files import partial_of
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.status import read_status, recorded_status


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_run_that_says_nothing(run: RunFolder) -> None:
    assert read_status(run) is None
    run.status.write_text("{", encoding="utf-8")
    assert read_status(run) is None
    run.status.write_text('{"state": "running"}', encoding="utf-8")
    assert read_status(run) is None


def test_running_then_finished(run: RunFolder) -> None:
    with recorded_status(run):
        status = read_status(run)
        assert status is not None
        assert (status.state, status.process, status.ended, status.reason) == ("running", os.getpid(), None, "")
    status = read_status(run)
    assert status is not None and status.ended is not None
    assert (status.state, status.reason) == ("finished", "the training reached its end")
    assert status.started <= status.ended


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (Interrupted("Stopped. Saved at step 3.", exit_code=130), "stopped", "Interrupted: Stopped. Saved at step 3."),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (TrainingError("cpu: out of memory", hint="Use less."), "failed", "cpu: out of memory\nUse less."),
        (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_why_it_ended(run: RunFolder, error: BaseException, state: str, reason: str) -> None:
    with pytest.raises(type(error)), recorded_status(run):
        raise error
    status = read_status(run)
    assert status is not None
    assert (status.state, status.reason) == (state, reason)


def test_stopped_without_an_exception(run: RunFolder) -> None:
    with recorded_status(run) as stopped:
        stopped("the time limit was reached")
    status = read_status(run)
    assert status is not None
    assert (status.state, status.reason) == ("stopped", "the time limit was reached")


def test_a_killed_run_is_told_from_a_running_one(run: RunFolder) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom dreambooth.runs.folder import RunFolder\n"
        "from dreambooth.runs.status import recorded_status\n"
        f"with recorded_status(RunFolder(Path({str(run.path)!r}))):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert json.loads(run.status.read_text(encoding="utf-8"))["state"] == "running"
    status = read_status(run)
    assert status is not None
    assert status.state == "killed"


def test_a_run_killed_between_its_model_and_its_only_checkpoint_is_finished(run: RunFolder) -> None:
    with recorded_status(run):
        values = json.loads(run.status.read_text(encoding="utf-8"))
        values["process_started"] -= 3600
    run.status.write_text(json.dumps(values), encoding="utf-8")
    run.final_model.write_bytes(b"model")
    partial_of(run.checkpoint_at(4), "ab").mkdir(parents=True)
    status = read_status(run)
    assert status is not None and (status.state, "final model" in status.reason) == ("finished", True)
    run.checkpoint_at(2).mkdir()
    status = read_status(run)
    assert status is not None and status.state == "killed", "a resume repeats the last steps"


def test_another_process_with_its_number_is_not_it(run: RunFolder) -> None:
    with recorded_status(run):
        values = json.loads(run.status.read_text(encoding="utf-8"))
        values["process_started"] = psutil.Process().create_time() - 3600
        run.status.write_text(json.dumps(values), encoding="utf-8")
        status = read_status(run)
        assert status is not None and status.state == "killed"
        values["host"] = "elsewhere"
        run.status.write_text(json.dumps(values), encoding="utf-8")
        status = read_status(run)
        assert status is not None and status.state == "running"
