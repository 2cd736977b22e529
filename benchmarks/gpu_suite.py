"""`gpu-suite`: all important GPU benchmarks, most important first, in one command with a time limit.

Each measurement is a process of its own with a limit of its own: one that runs out of memory or hangs costs only itself. What
no longer fits into the budget is skipped, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import SIZES
from benchmarks.records import ROOT, environment, say
from benchmarks.suite_jobs import Job, jobs
from benchmarks.suite_table import table
from dreambooth.files import write_json
from dreambooth.runtime.device import choose_device

__all__ = ["Outcome", "add_arguments", "measure", "run_job", "run_jobs"]

_TAIL = 1500  # characters of a failed process's output that are kept


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job."""

    job: Job
    status: str
    """done, failed, out of time, or skipped."""
    seconds: float
    records: list[dict[str, Any]]
    message: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gpu-suite`."""
    parser.add_argument("--report", type=Path, default=Path("gpu-suite.json"), help="report file (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=470, metavar="SECONDS", help="total time limit (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="device (default: %(default)s)")
    parser.add_argument(
        "--size", choices=SIZES, default="sd1", help="the model; the small ones are for testing the suite (default: sd1)"
    )
    parser.add_argument("--resolution", type=int, metavar="PIXELS", help="image size (default: that of the model)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only jobs whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="list the jobs and their time limits without running them")


def measure(arguments: argparse.Namespace) -> None:
    """Run the jobs; the report is rewritten after each of them."""
    chosen = [
        job
        for job in jobs(arguments.size, arguments.device, arguments.resolution)
        if arguments.only is None or any(part in job.name for part in arguments.only)
    ]
    if arguments.list:
        for job in chosen:
            limits = f"at most {job.limit:.0f} s, started only with at least {job.least:.0f} s left"
            say(f"{job.name}: {limits}: {' '.join(job.command[1:])}")
        return
    device = choose_device(arguments.device)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in run_jobs(chosen, budget=arguments.budget):
        outcomes.append(outcome)
        say(f"# {outcome.job.name}: {outcome.status} after {outcome.seconds:.0f} s {outcome.message[-200:]}".rstrip())
        write_json(arguments.report, _report(outcomes, arguments, environment(device), time.monotonic() - started))
    say(table(outcomes))


def run_jobs(chosen: list[Job], *, budget: float) -> Any:
    """Run the jobs and yield their outcomes; no job runs longer than the remaining budget."""
    deadline = time.monotonic() + budget
    for job in chosen:
        left = deadline - time.monotonic()
        if left < job.least:
            yield Outcome(job, "skipped", 0.0, [], f"{left:.0f} s of the budget were left, and it needs {job.least:.0f}")
        else:
            yield run_job(job, limit=min(job.limit, left))


def run_job(job: Job, *, limit: float) -> Outcome:
    """Run one process until it ends or reaches its limit; its records are kept in both cases."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lines, log = Path(folder) / "records.jsonl", Path(folder) / "log"
        command = [*job.command, "--output", str(lines)] if job.is_measurement else job.command
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = "done" if process.wait(timeout=limit) == 0 else "failed"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = "out of time"
        records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if lines.exists() else []
        said = log.read_text(encoding="utf-8", errors="replace")
    message = said[-_TAIL:] if status != "done" or not job.is_measurement else ""
    return Outcome(job, status, time.monotonic() - started, records, message.strip())


def _report(outcomes: list[Outcome], arguments: argparse.Namespace, around: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "suite": "gpu-suite",
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
        "size": arguments.size,
        "budget_seconds": arguments.budget,
        "seconds": round(seconds, 1),
        "environment": around,
        "jobs": [
            {
                "name": one.job.name,
                "status": one.status,
                "seconds": round(one.seconds, 1),
                "command": " ".join(one.job.command[1:]),
                "records": one.records,
                "message": one.message,
            }
            for one in outcomes
        ],
    }
