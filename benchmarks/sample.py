"""`sample`: makes class images with random weights through the product's own code, including VAE and PNG files."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import count_flops, forget_peak, matmul_peak, peak_of, quantile, synchronize
from benchmarks.models import Part, add_model_options, family_of, random_components
from benchmarks.records import add_output_option, emit
from benchmarks.workload import CAPTIONS
from dreambooth.families.components import Components
from dreambooth.pages.images import save_picture
from dreambooth.runtime.device import choose_device
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.placing import picture_dtype
from dreambooth.sampling.records import MadePicture, Picture, SamplingOptions

__all__ = ["add_arguments", "measure"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `sample`."""
    add_model_options(parser)
    parser.add_argument("--num-images", type=int, default=16, help="timed images (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="images made at once (default: %(default)s)")
    parser.add_argument("--sampler", choices=("ddim", "dpm++"), default="ddim", help="sampler (default: ddim)")
    parser.add_argument("--sampling-steps", type=int, default=50, help="sampling steps per image (default: %(default)s)")
    parser.add_argument(
        "--guidance-scale", type=float, default=10.0, help="guidance scale; 1 means no guidance (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="precision (default: fp16 on a GPU, otherwise fp32)"
    )
    parser.add_argument(
        "--scale-to", type=int, metavar="N", help="also report the time for N images at this speed (scaled, not measured)"
    )
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Make one warm-up batch, then all images, then their files, and print one record."""
    device = choose_device(arguments.device)
    family, dtype = family_of(arguments.size), picture_dtype(arguments.precision, device)
    side = arguments.resolution or family.resolution
    part = Part(device, dtype)
    components = random_components(family, unet=part, text_encoder=part, vae=part, seed=arguments.seed)
    options = SamplingOptions(
        sampler=arguments.sampler,
        steps=arguments.sampling_steps,
        guidance_scale=arguments.guidance_scale,
        height=side,
        width=side,
        seed=arguments.seed,
    )
    make = partial(_make, components, batch_size=arguments.batch_size, device=device, dtype=dtype)
    first = _timed_batches(make(arguments.batch_size, options), device)
    forget_peak(device)
    started = time.perf_counter()
    batches = _timed_batches(make(arguments.num_images, options), device)
    seconds, peak = time.perf_counter() - started, peak_of(device)
    writing = _write(batches.made)
    each = [one * 1000 for one in batches.seconds]
    scaled = {}
    if arguments.scale_to is not None:
        scaled = {
            "scaled_to_images": arguments.scale_to,
            "scaled_seconds": round((seconds + writing) * arguments.scale_to / arguments.num_images, 2),
            "scaled_note": f"not measured: {arguments.num_images} images, drawn, decoded and written in turn, scaled",
        }
    unet: Any = components.denoiser
    values: dict[str, Any] = {
        "size": arguments.size,
        "ms_per_batch": round(quantile(each, 0.5), 2),
        "ms_per_batch_10": round(quantile(each, 0.1), 2),
        "ms_per_batch_90": round(quantile(each, 0.9), 2),
        "first_batch_ms": round(first.seconds[0] * 1000, 2),
        "seconds": round(seconds, 4),
        "images_per_s": round(arguments.num_images / seconds, 4),
        "png_ms_per_image": round(writing * 1000 / arguments.num_images, 3),
        **scaled,
        **_flops(make, options, arguments.batch_size),
        **matmul_peak(device),
        **peak.summary(),
        "num_images": arguments.num_images,
        "batch": arguments.batch_size,
        "sampler": arguments.sampler,
        "sampling_steps": arguments.sampling_steps,
        "guidance_scale": arguments.guidance_scale,
        "resolution": side,
        "dtype": str(dtype).removeprefix("torch."),
        "attention": ", ".join(sorted({type(one).__name__ for one in unet.attn_processors.values()})),
    }
    speed = values["tflop_per_image"] * values["images_per_s"]
    emit(
        "sample", {**values, "share_of_matmul_peak": round(speed / values["matmul_tflops"], 4)}, arguments.output, device=device
    )


class _Batches:
    """Collects images, and the seconds between the ends of consecutive batches."""

    def __init__(self) -> None:
        self.made: list[MadePicture] = []
        self.seconds: list[float] = []


def _make(
    components: Components,
    num: int,
    options: SamplingOptions,
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    pictures = [Picture(CAPTIONS["prior"], index) for index in range(num)]
    made = make_pictures(
        components, pictures, options, batch_size=batch_size, device=device, dtype=dtype, advance=lambda _: None
    )
    return (made, batch_size)


def _timed_batches(work: Any, device: torch.device) -> _Batches:
    made, batch_size = work
    batches = _Batches()
    synchronize(device)
    last = time.perf_counter()
    for number, one in enumerate(made):
        if number % batch_size == 0:  # the first of a batch comes when the whole batch is done
            synchronize(device)
            now = time.perf_counter()
            batches.seconds.append(now - last)
            last = now
        batches.made.append(one)
    return batches


def _write(made: list[MadePicture]) -> float:
    """Seconds to write all images as PNG files, including the transfer to host memory if needed."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for number, one in enumerate(made):
            save_picture(Path(folder) / f"{number}.png", one.pixels_CHW, {"prompt": one.picture.prompt})
        return time.perf_counter() - started


def _flops(make: Any, options: SamplingOptions, batch_size: int) -> dict[str, float]:
    """Counted from one and two denoising steps of a batch: each further step costs the same."""

    def of(steps: int) -> int:
        return count_flops(lambda: list(make(batch_size, replace(options, steps=steps))[0]))

    one, two = of(1), of(2)
    each, once = two - one, 2 * one - two
    return {
        "tflop_per_image": round((once + each * options.steps) / batch_size / 1e12, 6),
        "tflop_per_image_outside_of_the_unet": round(once / batch_size / 1e12, 6),
    }
