"""The measurements are a package beside `src`, run from the repository's root; so the root must be found here too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run a verb here; the records that it wrote."""
    from benchmarks.__main__ import main

    def run(*arguments: str) -> list[dict[str, Any]]:
        output = tmp_path / "records.jsonl"
        assert main([*arguments, "--output", str(output)]) == 0
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return run
