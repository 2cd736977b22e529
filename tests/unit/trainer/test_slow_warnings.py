"""A full-size model on the CPU takes hours, which is said before it starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from dreambooth.trainer.preflight import _slow_warnings


def _base(num_parameters: int) -> Any:
    return SimpleNamespace(parts={"unet": {"weight": torch.empty(num_parameters, device="meta")}})


def test_only_a_large_model_on_the_cpu_is_slow() -> None:
    (warning,) = _slow_warnings(_base(1_066_000_000), torch.device("cpu"))
    assert warning.startswith("training a model of 1066 million parameters on the CPU takes many seconds per step and hours")
    assert _slow_warnings(_base(1_066_000_000), torch.device("cuda")) == []
    assert _slow_warnings(_base(4_000_000), torch.device("cpu")) == []
