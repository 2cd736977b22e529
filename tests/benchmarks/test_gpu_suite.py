"""The suite's promises: a job that fails or hangs costs only itself, and the budget is kept."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main, make_parser
from benchmarks.gpu_suite import Outcome, run_job, run_jobs
from benchmarks.suite_jobs import Job, jobs
from benchmarks.suite_table import table


def job(name: str, code: str, *, limit: float = 30, least: float = 1, is_measurement: bool = True) -> Job:
    return Job(name, (sys.executable, "-c", code), limit, least, is_measurement)


WRITE = 'import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(\'{"what": "train-step", "ms": 1.5}\\n\'); '


def test_what_was_measured_before_a_failure_counts() -> None:
    outcome = run_job(job("broken", WRITE + "raise MemoryError('no memory left')"), limit=30)
    assert outcome.status == "failed"
    assert outcome.records == [{"what": "train-step", "ms": 1.5}]
    assert "no memory left" in outcome.message


def test_a_job_that_hangs_is_stopped_with_what_it_started() -> None:
    started = time.monotonic()
    hangs = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    )
    outcome = run_job(job("hangs", hangs), limit=1)
    assert outcome.status == "out of time"
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_what_no_longer_fits_is_skipped_and_said() -> None:
    slow, late, short = job("slow", "import time; time.sleep(1.5)"), job("late", WRITE, least=9), job("short", WRITE, least=0)
    outcomes = list(run_jobs([slow, late, short], budget=10))
    assert [outcome.status for outcome in outcomes] == ["done", "skipped", "done"]
    assert "it needs 9" in outcomes[1].message


def test_the_end_of_a_test_run_is_kept() -> None:
    outcome = run_job(job("tests", "print('7 passed')", is_measurement=False), limit=30)
    assert (outcome.status, outcome.message) == ("done", "7 passed")


def test_the_most_important_come_first_and_every_preset_is_there() -> None:
    names = [one.name for one in jobs("sd1", "cuda", 512)]
    assert names[0] == "matmul peak"
    assert names[-1] == "tests/gpu"
    for preset in ("fast", "24gb", "12gb", "8gb", "6gb"):
        assert {f"step, UNet, {preset}", f"step, UNet + text encoder, {preset}"} <= set(names)
    assert len(names) == len(set(names))


def test_every_job_is_a_command_that_the_benchmarks_know() -> None:
    parser = make_parser()
    for one in jobs("miniature", "cpu", 64):
        if one.is_measurement:
            assert parser.parse_args(one.command[3:]).verb == one.command[3]


@pytest.mark.slow
def test_the_suite_writes_its_report_after_each_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ("train-step", "--size", "miniature", "--device", "cpu", "--steps", "1", "--warmup", "1")
    command = (sys.executable, "-m", "benchmarks", *step, "--memory-preset", "6gb", "--stream-blocks")
    chosen = (Job("streamed", command, 200, 1), job("broken", "raise ValueError('no')"))
    monkeypatch.setattr("benchmarks.gpu_suite.jobs", lambda *_: chosen)
    report = tmp_path / "report.json"
    assert main(["gpu-suite", "--device", "cpu", "--size", "miniature", "--report", str(report)]) == 0
    written: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    streamed, broken = written["jobs"]
    assert streamed["status"] == "done", streamed["message"]
    assert streamed["records"][0]["plan_stream_blocks"]
    assert broken["status"] == "failed"
    assert written["environment"]["torch"]
    assert "ValueError: no" in capsys.readouterr().out


def test_the_table_shows_records_skips_and_failures() -> None:
    record = {"what": "train-step", "ms": 12.346, "ms_10": 12.0, "ms_90": 13.0, "peak_allocated_gb": 5.0, "first_ms": 2500.0}
    missing = {**record, "share_of_matmul_peak": None}
    outcomes = [
        Outcome(job("step", ""), "done", 1.0, [missing]),
        Outcome(job("late", ""), "skipped", 0.0, [], "3 s of the budget were left"),
    ]
    header, measured, skipped = table(outcomes).splitlines()
    assert header.split()[:3] == ["job", "status", "ms"]
    assert measured.split() == ["step", "done", "12.35", "12.00", "-", "13.00", "5.00", "2.5"]
    assert skipped.split()[:2] == ["late", "skipped"]
    assert skipped.endswith("3 s of the budget were left")
