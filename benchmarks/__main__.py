"""Benchmarks, one verb each; `python -m benchmarks VERB --help` explains the options of a verb."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError

__all__ = ["main", "make_parser"]

_VERBS = {
    "train-step": ("train_step", "add_arguments", "measure", "a training step: time, FLOPs, memory"),
    "original-loop": ("original_loop", "add_arguments", "measure", "a training step of the original program"),
    "compare-original": ("compare_original", "add_arguments", "compare", "our step and the original's, alternating"),
    "presets": ("presets", "add_arguments", "measure", "losses of the small presets compared with float32"),
    "sample": ("sample", "add_arguments", "measure", "class images: time, FLOPs, memory"),
    "load": ("load", "add_arguments", "measure", "reading and writing a model file compared with the speed of the disk"),
    "demo": ("demo", "add_arguments", "measure", "time of `dreambooth demo` by phase"),
    "cold-start": (
        "cold_start",
        "add_arguments",
        "measure",
        "time of a whole run from a model file by phase, scaled to full length",
    ),
    "web": ("web", "add_arguments", "measure", "the browser interface: load of open pages, time of lists, time of the start"),
    "web-training": ("web_training", "add_arguments", "measure", "a training step with and without 50 open pages, alternating"),
    "smoke": ("smoke", "add_arguments", "measure", "loss of the first step on a device compared with the CPU"),
    "matmul": ("train_step", "add_matmul_arguments", "measure_matmul", "peak speed of matrix products on the device"),
    "gpu-suite": ("gpu_suite", "add_arguments", "measure", "all important GPU benchmarks in one command, under 8 minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0 on success, 2 when the request cannot be fulfilled."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    chosen = make_parser().parse_args(arguments)
    try:
        chosen.run(chosen)
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; parsed arguments have the chosen function as `run`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (module, add, run, text) in _VERBS.items():
        room = importlib.import_module(f"benchmarks.{module}")
        parser_of_verb = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        getattr(room, add)(parser_of_verb)
        parser_of_verb.set_defaults(run=getattr(room, run))
    return parser


if __name__ == "__main__":
    sys.exit(main())
