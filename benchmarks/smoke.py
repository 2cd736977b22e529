"""`smoke`: compares the first step on a device with the CPU, for the bundled model in every precision.

Counted randomness gives every device the same examples and noise, so the first losses differ only by rounding.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.records import add_output_option, emit
from benchmarks.workload import StepChoices, start_run
from dreambooth.errors import DreamboothError
from dreambooth.runtime.device import choose_device
from dreambooth.weights.read import read_model

__all__ = ["add_arguments", "measure"]

_TOLERANCES = {"fp32": 1e-3, "bf16-mixed": 3e-2, "fp16-mixed": 3e-2, "bf16": 3e-2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `smoke`."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, otherwise the CPU)")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=tuple(_TOLERANCES),
        default=list(_TOLERANCES),
        help="precisions to compare (default: all)",
    )
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Print one record per precision, and whether its loss is close enough to float32 on the CPU."""
    device, expected = choose_device(arguments.device), _first_loss("fp32", torch.device("cpu"))
    for precision in arguments.precisions:
        try:
            loss = _first_loss(precision, device)
        except DreamboothError as error:
            emit(
                "smoke",
                {"precision": precision, "is_near": None, "skipped_because": str(error)},
                arguments.output,
                device=device,
            )
            continue
        difference = abs(loss / expected - 1)
        values = {
            "precision": precision,
            "loss": loss,
            "cpu_loss": expected,
            "difference": difference,
            "tolerance": _TOLERANCES[precision],
            "is_near": difference <= _TOLERANCES[precision],
        }
        emit("smoke", values, arguments.output, device=device)


def _first_loss(precision: str, device: torch.device) -> float:
    base = read_model("toybox")
    choices = StepChoices({"memory_preset": "cpu", "precision": precision})
    run = start_run(base.family, choices, device=device, components=base.build(dtype=torch.float32))
    with run.trainee.train_mode():
        result = next(run.steps)
        result.check()
        return result.loss
