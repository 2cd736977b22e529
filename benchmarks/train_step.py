"""`train-step`: time and memory of one step of the product's own loop; `matmul`: the device's peak speed."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.measure import count_flops, forget_peak, matmul_peak, peak_of, time_iterations
from benchmarks.models import add_model_options, family_of
from benchmarks.records import add_output_option, emit
from benchmarks.workload import StepChoices, SyntheticRun, start_run
from dreambooth.memory.plan import PRESETS
from dreambooth.runtime.device import choose_device

__all__ = [
    "add_arguments",
    "add_matmul_arguments",
    "add_plan_options",
    "choices_of",
    "flops_of_a_step",
    "measure",
    "measure_matmul",
]

_LEVERS = {
    "precision": ("fp32", "bf16-mixed", "fp16-mixed", "bf16"),
    "optimizer_states": ("float32", "8bit", "4bit"),
    "gradient_checkpointing": ("off", "outer", "all"),
}
_SWITCHES = {
    "step_in_backward": "update each tensor as soon as its gradient is computed",
    "states_on_host": "keep the optimizer states in host memory",
    "stream_blocks": "keep the UNet's weights in host memory; requires step-in-backward and gradient-checkpointing all",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `train-step`."""
    add_model_options(parser)
    add_plan_options(parser)
    parser.add_argument("--steps", type=int, default=30, help="timed steps (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=5, help="warm-up steps (default: %(default)s)")
    add_output_option(parser)


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Options for the training step."""
    parser.add_argument(
        "--memory-preset",
        choices=tuple(PRESETS),
        help="memory preset (default: fast on a GPU, otherwise cpu)",
    )
    for name, values in _LEVERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", choices=values, help="overrides the preset")
    parser.add_argument("--micro-batch-size", type=int, help="examples per forward pass, photos and class images together")
    for name, text in _SWITCHES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    parser.add_argument(
        "--train-text-encoder",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train the text encoder with the UNet (default: yes)",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="photos per step, plus the same number of class images")
    parser.add_argument(
        "--plain-attention", action="store_true", help="compute the UNet's attention as three plain products, for experiments"
    )
    parser.add_argument(
        "--compile", choices=("off", "blocks", "full"), default="off", help="what torch compiles (default: off)"
    )


def choices_of(arguments: argparse.Namespace) -> StepChoices:
    """The choices from the arguments."""
    levers = (*_LEVERS, *_SWITCHES, "micro_batch_size")
    given = {name: getattr(arguments, name) for name in levers}
    is_gpu = choose_device(arguments.device).type == "cuda"
    memory = {"memory_preset": arguments.memory_preset or ("fast" if is_gpu else "cpu")}
    return StepChoices(
        memory={**memory, **{name: value for name, value in given.items() if value is not None}},
        trains_text_encoder=arguments.train_text_encoder,
        batch_size=arguments.batch_size,
        compile=arguments.compile,
        has_plain_attention=arguments.plain_attention,
        seed=arguments.seed,
    )


def measure(arguments: argparse.Namespace) -> None:
    """Measure and print one record. Raises TrainingError when a loss or gradient is not finite."""
    device = choose_device(arguments.device)
    run = start_run(family_of(arguments.size), choices_of(arguments), device=device, resolution=arguments.resolution)
    forget_peak(device)
    results = []
    with run.trainee.train_mode():
        timing = time_iterations(
            lambda: results.append(next(run.steps)), device, iterations=arguments.steps, warmup=arguments.warmup
        )
        peak = peak_of(device)
        for result in results:
            result.check()
        flops = flops_of_a_step(run)
    summary, matmul = timing.summary(), matmul_peak(device)
    values: dict[str, Any] = {
        "size": arguments.size,
        **summary,
        "images_per_s": round(run.images_per_step * summary["steps_per_s"], 4),
        **flops,
        **matmul,
        "share_of_matmul_peak": _share(flops["tflop_per_step"], summary["ms"], matmul["matmul_tflops"]),
        **peak.summary(),
        "predicted_peak_bytes": run.predicted_peak(),
        "predicted_peak_gb": round(run.predicted_peak() / 1e9, 3),
        "predicted_peak_kind": "the product's estimate of the training step on a CUDA device",
        "first_loss": results[0].loss,
        "last_loss": results[-1].loss,
        **run.switches(),
    }
    emit("train-step", values, arguments.output, device=device)


def flops_of_a_step(run: SyntheticRun) -> dict[str, Any]:
    """TFLOP of the next step; None and the reason when counting fails, which must not stop the benchmark."""
    try:
        return {"tflop_per_step": round(count_flops(lambda: next(run.steps)) / 1e12, 6)}
    except Exception as error:
        return {"tflop_per_step": None, "tflop_missing_because": f"{type(error).__name__}: {error}"[:300]}


def _share(tflop: float | None, milliseconds: float, peak: Any) -> float | None:
    return None if tflop is None else round(tflop / (milliseconds / 1000) / peak, 4)


def measure_matmul(arguments: argparse.Namespace) -> None:
    """Print the device's peak speed of matrix products."""
    device = choose_device(arguments.device)
    emit("matmul", matmul_peak(device), arguments.output, device=device)


def add_matmul_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `matmul`."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, otherwise the CPU)")
    add_output_option(parser)
