"""The measurements of `gpu-suite`, most important first."""

from __future__ import annotations

import sys
from dataclasses import dataclass

__all__ = ["Job", "jobs"]

_STEPS = ("--steps", "20", "--warmup", "4")
_UNET_ONLY = ("--no-train-text-encoder",)


@dataclass(frozen=True)
class Job:
    """A process of the suite."""

    name: str
    command: tuple[str, ...]
    limit: float
    """Time limit in seconds."""
    least: float
    """The job is skipped when fewer seconds are left."""
    is_measurement: bool = True
    """Whether it writes records; otherwise the end of its output is kept."""


def jobs(size: str, device: str, resolution: int | None) -> tuple[Job, ...]:
    """All jobs for a model, a device and an image size."""
    side = () if resolution is None else ("--resolution", str(resolution))
    model = ("--size", size, "--device", device, *side)

    def job(name: str, verb: str, *options: str, limit: float = 45, least: float = 12) -> Job:
        return Job(name, (sys.executable, "-m", "benchmarks", verb, *options), limit, least)

    def step(name: str, *options: str, limit: float = 45, least: float = 12) -> Job:
        return job(name, "train-step", *model, *_STEPS, *options, limit=limit, least=least)

    def images(name: str, sampler: str, steps: int, num: int) -> Job:
        options = ("--sampler", sampler, "--sampling-steps", str(steps), "--num-images", str(num), "--batch-size", "8")
        return job(name, "sample", *model, *options, "--scale-to", "200", limit=60, least=20)

    def preset(name: str, *options: str) -> Job:
        words = "UNet" if options else "UNet + text encoder"
        return step(f"step, {words}, {name}", "--memory-preset", name, *options)

    compiled = ("--memory-preset", "fast", *_UNET_ONLY, "--compile")
    return (
        job("matmul peak", "matmul", "--device", device, limit=30),
        job("first step against the CPU", "smoke", "--device", device, limit=60),
        preset("fast", *_UNET_ONLY),
        preset("fast"),
        preset("6gb", *_UNET_ONLY),
        preset("8gb"),
        step("step, UNet, fast, compiled blocks", *compiled, "blocks", limit=110, least=40),
        images("200 class images, dpm++ 20", "dpm++", 20, 32),
        images("200 class images, ddim 50", "ddim", 50, 16),
        job("cold start", "cold-start", *model, limit=110, least=50),
        preset("24gb", *_UNET_ONLY),
        preset("24gb"),
        preset("12gb", *_UNET_ONLY),
        preset("12gb"),
        preset("8gb", *_UNET_ONLY),
        preset("6gb"),
        step("step, UNet, 6gb, 4bit", "--memory-preset", "6gb", "--optimizer-states", "4bit", *_UNET_ONLY),
        step("step, UNet, 6gb, streamed blocks", "--memory-preset", "6gb", "--stream-blocks", *_UNET_ONLY),
        step("step, UNet, fast, compiled whole", *compiled, "full", limit=150, least=60),
        Job("tests/gpu", (sys.executable, "-m", "pytest", "tests/gpu", "-q", "-n0"), 240, 30, is_measurement=False),
    )
