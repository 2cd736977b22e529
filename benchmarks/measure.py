"""Times, FLOPs and memory of repeated work.

A GB is 10^9 bytes. Times come from device events on CUDA, and from the host's clock on other devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from dreambooth.runtime.device import peak_memory_bytes

__all__ = [
    "Peak",
    "Timing",
    "count_flops",
    "forget_peak",
    "matmul_peak",
    "peak_of",
    "quantile",
    "synchronize",
    "time_iterations",
    "time_once",
]

GB = 10**9
_CPU_SIDES = (512, 1024, 2048)
_GPU_SIDES = (4096, 8192, 16384)
_NUM_PRODUCTS = 8


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile `share` of the values, interpolated between neighbors; 0.5 is the median."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each measured iteration, and of the first one, which also compiles and allocates."""

    first_ms: float
    warmup_ms: float
    """Total of all iterations that were not measured, including the first one."""
    each_ms: tuple[float, ...]
    processor_ms: float
    """Processor time of the process per measured iteration, summed over threads; other load hardly affects it."""

    def summary(self) -> dict[str, float]:
        """The values for a record."""
        median = quantile(self.each_ms, 0.5)
        return {
            "ms": round(median, 4),
            "ms_10": round(quantile(self.each_ms, 0.1), 4),
            "ms_90": round(quantile(self.each_ms, 0.9), 4),
            "iterations": len(self.each_ms),
            "first_ms": round(self.first_ms, 2),
            "warmup_ms": round(self.warmup_ms, 2),
            "processor_ms": round(self.processor_ms, 3),
            "steps_per_s": round(1000 / median, 4),
        }


@dataclass(frozen=True)
class Peak:
    """Peak memory."""

    allocated: int
    reserved: int | None
    """Memory that torch reserved on the device; None on devices without this distinction."""
    kind: str
    """What the numbers count."""

    def summary(self) -> dict[str, object]:
        """The values for a record."""
        return {
            "peak_allocated_bytes": self.allocated,
            "peak_allocated_gb": round(self.allocated / GB, 3),
            "peak_reserved_gb": None if self.reserved is None else round(self.reserved / GB, 3),
            "peak_kind": self.kind,
        }


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_once(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call; the device is idle before and after."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return (time.perf_counter() - start) * 1000


def time_iterations(work: Callable[[], object], device: torch.device, *, iterations: int, warmup: int) -> Timing:
    """Call `work` `warmup` times (at least once), then `iterations` times with timing."""
    first = time_once(work, device)
    rest = time_once(lambda: [work() for _ in range(warmup - 1)], device)
    processor = time.process_time()
    if device.type == "cuda":
        with torch.cuda.device(device):
            each = _with_events(work, iterations)
    else:
        each = tuple(time_once(work, device) for _ in range(iterations))
    return Timing(first, first + rest, each, (time.process_time() - processor) * 1000 / iterations)


def _with_events(work: Callable[[], object], iterations: int) -> tuple[float, ...]:
    """The host runs ahead of the device, as in training; the events are read at the end."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(iterations + 1)]  # type: ignore[no-untyped-call]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return tuple(before.elapsed_time(after) for before, after in pairwise(events))


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions in one call, including recomputed ones.

    A product of (n, k) and (k, m) counts 2 n k m. Under the counter, torch runs compiled functions uncompiled.
    """
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU) as counter:
        work()
    return int(counter.get_total_flops())


def _forward_attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward_attention(
    gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


_ATTENTION_ON_CPU = {  # torch's own table contains only GPU kernels
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_attention,
}


def matmul_peak(device: torch.device) -> dict[str, object]:
    """The highest TFLOP/s of square matrix products among a few sizes.

    Uses bfloat16 on CUDA and float32 on the CPU, where the result depends on the number of threads.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    best, best_side = 0.0, 0
    for side in _GPU_SIDES if device.type == "cuda" else _CPU_SIDES:
        left, right, out = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(3))
        timing = time_iterations(partial(torch.mm, left, right, out=out), device, iterations=_NUM_PRODUCTS, warmup=2)
        speed = 2 * side**3 / (min(timing.each_ms) / 1000) / 1e12
        if speed > best:
            best, best_side = speed, side
    return {"matmul_tflops": round(best, 4), "matmul_side": best_side, "matmul_dtype": str(dtype).removeprefix("torch.")}


def forget_peak(device: torch.device) -> None:
    """Empty the cache and reset the peak memory of a CUDA device; the peak of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_of(device: torch.device) -> Peak:
    """Peak memory since `forget_peak`; on the CPU, the largest resident size of the process since its start."""
    allocated = peak_memory_bytes(device)
    if device.type == "cuda":
        return Peak(allocated, torch.cuda.max_memory_reserved(device), "bytes that torch allocated on the device")
    return Peak(allocated, None, "largest resident size of the process, libraries included")
