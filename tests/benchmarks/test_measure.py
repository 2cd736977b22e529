"""Times, counts and shares that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import measure
from benchmarks.measure import Timing, count_flops, quantile, time_iterations

CPU = torch.device("cpu")


def test_quantiles_are_interpolated_between_neighbours() -> None:
    values = [3.0, 1.0, 2.0, 4.0, 5.0]
    assert quantile(values, 0.5) == 3
    assert quantile(values, 0.1) == pytest.approx(1.4)
    assert quantile(values, 0.9) == pytest.approx(4.6)
    assert quantile([7.0], 0.9) == 7


def test_a_linear_layer_counts_two_operations_for_each_product_forward_and_backward() -> None:
    """(5, 7) by (7, 11): once forward, and backward once for the weight and once for what came in."""
    layer, x = nn.Linear(7, 11), torch.randn(5, 7, requires_grad=True)
    once = 2 * 5 * 7 * 11
    assert count_flops(lambda: layer(x)) == once
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * once


def test_attention_counts_on_the_cpu_as_well() -> None:
    """Two products of (6, 8) and (8, 6) for each of 2 heads, which torch's own table leaves out on the CPU."""
    query, key, value = (torch.randn(1, 2, 6, 8) for _ in range(3))
    attend = nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attend(query, key, value)) == 2 * (2 * 2 * 6 * 6 * 8)


def test_what_is_compiled_is_counted_uncompiled() -> None:
    """The kernels of a compiled model are not seen by the counter; here they are ones that multiply nothing."""

    class Layer(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight)

    layer, x = Layer(7, 11), torch.randn(5, 7)
    layer.compile(backend=lambda *_: lambda *_: (torch.zeros(5, 11),))
    assert layer(x).count_nonzero() == 0
    assert count_flops(lambda: layer(x)) == 2 * 5 * 7 * 11


def test_iterations_are_timed_one_by_one_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by as many milliseconds as the number of the call, so every time tells which call it was."""
    calls = 0
    now = 0.0

    def work() -> None:
        nonlocal calls, now
        calls += 1
        now += calls / 1000

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
    timing = time_iterations(work, CPU, iterations=3, warmup=2)
    assert timing.each_ms == pytest.approx((3, 4, 5))
    assert timing.first_ms == pytest.approx(1)
    assert timing.warmup_ms == pytest.approx(1 + 2)


def test_a_summary_gives_the_median_and_the_steps_in_a_second() -> None:
    summary = Timing(first_ms=9, warmup_ms=10, each_ms=(4.0, 2.0, 8.0), processor_ms=5).summary()
    assert summary["ms"] == 4
    assert summary["steps_per_s"] == 250
    assert summary["iterations"] == 3


def test_the_peak_of_the_cpu_is_that_of_its_best_size() -> None:
    peak = measure.matmul_peak(CPU)
    assert peak["matmul_tflops"] > 0
    assert peak["matmul_side"] in (512, 1024, 2048)
    assert peak["matmul_dtype"] == "float32"
