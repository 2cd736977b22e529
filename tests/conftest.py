"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

# One thread, here and in the commands that tests start: the models are tiny, sums keep their order on every machine, and
# threads that wait for each other on a busy machine are slower than one by a factor of twenty.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "golden"


def _golden_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("golden_rebuild", GOLDEN / "rebuild.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_state_dict() -> dict[str, torch.Tensor]:
    """The miniature checkpoint's tensors under the original's names."""
    state_dict: dict[str, torch.Tensor] = _golden_module().rebuild_state_dict()
    return state_dict


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature Stable Diffusion 1 checkpoint in the original format, as a .ckpt file."""
    path = tmp_path_factory.mktemp("golden") / "sd-v1-mini.ckpt"
    _golden_module().write_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def golden_expected() -> dict[str, torch.Tensor]:
    """What the original code computed with the miniature checkpoint."""
    return load_file(GOLDEN / "expected.safetensors")


@pytest.fixture(scope="session")
def golden_config() -> Path:
    """The miniature checkpoint's YAML in the original configuration language."""
    return GOLDEN / "v1-mini.yaml"
