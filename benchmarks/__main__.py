"""The command line of the measurements: one verb each; `python -m benchmarks VERB --help` explains its options."""

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
    "train-step": ("train_step", "add_arguments", "measure", "a step of training: time, FLOPs, memory"),
    "original-loop": ("original_loop", "add_arguments", "measure", "a step as the original program made it"),
    "compare-original": ("compare_original", "add_arguments", "compare", "our step and the original's in turns"),
    "presets": ("presets", "add_arguments", "measure", "the loss of the small presets against float32"),
    "sample": ("sample", "add_arguments", "measure", "class images: time, FLOPs, memory"),
    "load": ("load", "add_arguments", "measure", "reading and writing a model file against the disk's own speed"),
    "demo": ("demo", "add_arguments", "measure", "`dreambooth demo` by phases"),
    "cold-start": ("cold_start", "add_arguments", "measure", "a whole run from a model file by phases, scaled to full length"),
    "smoke": ("smoke", "add_arguments", "measure", "the first step's loss on a device against the CPU's"),
    "matmul": ("train_step", "add_matmul_arguments", "measure_matmul", "the device's own peak of matrix products"),
    "gpu-suite": ("gpu_suite", "add_arguments", "measure", "all that matters on a GPU, in one command and under 8 minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it is done, 2 when what is asked cannot be."""
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
    """The parser of all verbs; what it returns has the chosen one as `run`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (module, add, run, text) in _VERBS.items():
        room = importlib.import_module(f"benchmarks.{module}")
        one = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        getattr(room, add)(one)
        one.set_defaults(run=getattr(room, run))
    return parser


if __name__ == "__main__":
    sys.exit(main())
