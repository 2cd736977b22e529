"""`demo`: the wall time of `dreambooth demo` by phase, as far as its jobs and events show."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.phases import JobTimes, event_phases
from benchmarks.records import ROOT, add_output_option, emit
from dreambooth.display_events import EventsDisplay
from dreambooth.recipes.demo import demo
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.device import choose_device
from dreambooth.schema.verbs import DemoSettings

__all__ = ["add_arguments", "import_seconds", "measure"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `demo`."""
    parser.add_argument("--steps", type=int, help="training steps (default: those of the preset toybox)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, otherwise the CPU)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Run the demo in a temporary folder and print one record."""
    device, jobs = choose_device(arguments.device), JobTimes()
    with tempfile.TemporaryDirectory() as folder:
        output, started, clock = Path(folder) / "demo", time.time(), time.monotonic()
        demo(DemoSettings(output=output, steps=arguments.steps, device=arguments.device), EventsDisplay(jobs.listen))
        seconds = time.monotonic() - clock
        phases = event_phases(RunFolder(output), started=started, ended=time.time())
    values: dict[str, Any] = {
        "seconds": round(seconds, 3),
        "import_seconds": import_seconds(),
        "jobs": {name: round(one, 3) for name, one in jobs.seconds.items()},
        "job_counts": jobs.counts,
        "phases": phases,
        "steps": arguments.steps,
    }
    emit("demo", values, arguments.output, device=device)


def import_seconds() -> float:
    """Seconds until a new process has imported what training needs; the phases do not include them."""
    code = "import dreambooth.recipes.train, diffusers.models.unets.unet_2d_condition, transformers.models.clip.modeling_clip"
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    return round(time.monotonic() - start, 3)
