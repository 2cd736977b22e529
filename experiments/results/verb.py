"""`results`: all numbers of docs/explanation/results.md, from runs made with the commands that a user would type.

Finished work is not repeated: the same command resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.records import environment, say
from dreambooth.cli.terminal import hush_libraries
from dreambooth.files import write_json, write_text
from experiments.paper import PRESET_RATE
from experiments.results.chosen import measure_choice, scored_steps
from experiments.results.figure import sweep_figure
from experiments.results.judges import measure_judges
from experiments.results.pairs import measure_pair
from experiments.results.runs import FULL, Place, Scale, learn_at_rates, learn_pair, learn_with_prior
from experiments.results.sheet import write_sheet
from experiments.results.subject import measure_subject
from experiments.results.tables import as_markdown

__all__ = ["add_arguments", "measure", "measure_all"]

Job = tuple[Callable[..., Any], tuple[Any, ...]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `results`."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/results"),
        help="folder for runs, images, tables and the figure; about 20 GB (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="number of processes with one thread each (default: all cores)"
    )


def measure(arguments: argparse.Namespace) -> None:
    """Run everything at full scale."""
    measure_all(arguments.output.expanduser().absolute(), FULL, workers=arguments.workers)


def measure_all(output: Path, scale: Scale, *, workers: int) -> dict[str, Any]:
    """Make and measure the runs, and write the numbers, tables, figure and images into `output`. Returns the numbers."""
    place = Place(output)
    output.mkdir(parents=True, exist_ok=True)
    for name in scale.subjects:
        place.photos(name)  # before several processes need them
    _do([(learn_with_prior, (place, scale, weight)) for weight in (1, 0)], workers)
    _do([(learn_at_rates, (place, scale, name)) for name in scale.subjects], workers)
    _do([(learn_pair, (place, scale, pair)) for pair in scale.pairs], workers)
    record = {
        "judges": measure_judges(place, scale),
        "subjects": _do([(measure_subject, (place, scale, name)) for name in scale.subjects], workers),
        "choices": _do([(measure_choice, (place, scale, name)) for name in scale.subjects], workers),
        "pairs": _do([(measure_pair, (place, scale, pair)) for pair in scale.pairs], workers),
        "rates": _rates(place, scale),
        "budgets": [scale.steps, scale.long_steps],
        **environment(torch.device("cpu")),
    }
    write_json(output / "results.json", record)
    write_text(output / "results.md", as_markdown(record))
    write_text(output / "sweep.svg", sweep_figure(record["rates"]))
    write_sheet(place, scale)
    say(f"Wrote results.json, results.md, sweep.svg and sheet.png to {output}")
    return record


def _do(jobs: Sequence[Job], workers: int) -> list[Any]:
    """The results of all jobs, in order; runs several at a time, with one thread each."""
    if workers == 1:
        return [do(*arguments) for do, arguments in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_with_one_thread) as pool:
        return [future.result() for future in [pool.submit(do, *arguments) for do, arguments in jobs]]


def _with_one_thread() -> None:
    hush_libraries()
    torch.set_num_threads(1)


def _rates(place: Place, scale: Scale) -> dict[str, dict[str, dict[int, float]]]:
    """Maps balance, fidelity, prompt and prior to rates, and these to the mean over subjects by step."""
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for rate in scale.rates:
        histories = [scored_steps(place.at_rate(name, rate)) for name in scale.rate_subjects]
        steps = [step for step in sorted(histories[0]) if step <= scale.rate_steps]
        for part in histories[0][steps[0]]:
            means = {step: _mean_of(histories, step, part) for step in steps}
            line = {step: mean for step, mean in means.items() if mean is not None}
            if line:  # otherwise no score of this part distinguishes the base model from the photos
                panels.setdefault(part, {})[_name(rate)] = line
    return panels


def _name(rate: float) -> str:
    return f"{rate:g}{' (the preset)' if rate == PRESET_RATE else ''}"


def _mean_of(histories: Sequence[Mapping[int, Mapping[str, float | None]]], step: int, part: str) -> float | None:
    values = [value for history in histories if (value := history[step][part]) is not None]
    return sum(values) / len(values) if values else None
