"""One JSON object per measurement, with everything that it depends on: options, versions, machine, commit."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import dreambooth

__all__ = ["ROOT", "add_output_option", "emit", "environment", "say"]

ROOT = Path(__file__).resolve().parent.parent
"""The repository root, where commands are run."""


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that all measuring verbs share."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="also append each JSON line to this file")


def emit(what: str, values: Mapping[str, Any], output: Path | None, *, device: torch.device) -> dict[str, Any]:
    """Print the measurement as one line of JSON, append it to `output`, and return the whole record."""
    record = {"what": what, **values, **environment(device)}
    line = json.dumps(record)
    say(line)
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return record


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and time."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else f"{device.type}: {_processor()}",
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if is_cuda else None,
        "driver": _driver() if is_cuda else None,
        "diffusers": importlib.metadata.version("diffusers"),
        "transformers": importlib.metadata.version("transformers"),
        "dreambooth": dreambooth.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    return _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _commit() -> str | None:
    """The commit, marked when there are uncommitted changes; None outside a repository."""
    commit = _first_line("git", "rev-parse", "--short=12", "HEAD")
    is_changed = commit is not None and _first_line("git", "status", "--porcelain") is not None
    return f"{commit} with changes" if is_changed else commit


def _first_line(*command: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), None)
