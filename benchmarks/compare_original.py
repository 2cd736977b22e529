"""`compare-original`: alternates blocks of our steps and the original's in one process."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import quantile, time_once
from benchmarks.models import add_model_options, family_of
from benchmarks.original_loop import add_variants, check_losses, started, switches_of
from benchmarks.records import add_output_option, emit
from benchmarks.train_step import add_plan_options, choices_of
from benchmarks.workload import start_run
from dreambooth.runtime.device import choose_device

__all__ = ["add_arguments", "compare"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `compare-original`."""
    add_model_options(parser)
    add_plan_options(parser)
    parser.add_argument("--blocks", type=int, default=8, help="alternating blocks of each loop (default: %(default)s)")
    parser.add_argument("--block-steps", type=int, default=5, help="steps per block (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="warm-up steps of each loop (default: %(default)s)")
    add_variants(parser)
    add_output_option(parser)


def compare(arguments: argparse.Namespace) -> None:
    """Alternate both loops, so that other load affects both; a ratio below 1 means that ours is faster."""
    device = choose_device(arguments.device)
    original = started(arguments, device)
    run = start_run(family_of(arguments.size), choices_of(arguments), device=device, resolution=arguments.resolution)
    results = []
    with run.trainee.train_mode():

        def ours() -> None:
            results.append(next(run.steps))

        times, processor = _in_turns({"ours": ours, "original": original.step}, arguments, device)
    for result in results:
        result.check()
    check_losses(original)
    medians = {name: quantile([one for block in blocks for one in block], 0.5) for name, blocks in times.items()}
    ratios = [
        quantile(mine, 0.5) / quantile(theirs, 0.5) for mine, theirs in zip(times["ours"], times["original"], strict=True)
    ]
    values: dict[str, Any] = {
        "ratio": round(medians["ours"] / medians["original"], 4),
        "ratio_of_blocks_10": round(quantile(ratios, 0.1), 4),
        "ratio_of_blocks_90": round(quantile(ratios, 0.9), 4),
        "processor_ratio": round(processor["ours"] / processor["original"], 4),
        "ours_ms": round(medians["ours"], 3),
        "original_ms": round(medians["original"], 3),
        "blocks": arguments.blocks,
        "block_steps": arguments.block_steps,
        **run.switches(),
        **switches_of(arguments, original),
    }
    emit("compare-original", values, arguments.output, device=device)


def _in_turns(
    loops: dict[str, Callable[[], object]], arguments: argparse.Namespace, device: torch.device
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Milliseconds of every step, block by block, and total processor seconds of each loop."""
    for step in loops.values():
        for _ in range(arguments.warmup):
            step()
    times: dict[str, list[list[float]]] = {name: [] for name in loops}
    processor = dict.fromkeys(loops, 0.0)
    for _ in range(arguments.blocks):
        for name, step in loops.items():
            before = time.process_time()
            times[name].append([time_once(step, device) for _ in range(arguments.block_steps)])
            processor[name] += time.process_time() - before
    return times, processor
