"""The code of docs/python.md runs, block after block, in an empty folder, without a network and on the CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_the_page_can_be_typed(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    program = tmp_path / "page.py"
    program.write_text("\n\n".join(blocks), encoding="utf-8")
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": scripts, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240, env=environment
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Wrote 5 photos of a vase to photos. To train on them:"
    run = tmp_path / "runs" / "vase"
    assert lines[2] == f"{run} {run / 'model.safetensors'} finished"
    assert lines[3] == "photo of a sks vase 42"
    assert lines[4] == "unknown setting 'learning_rat'; did you mean 'learning_rate'?"
    assert lines[5] == "steps is 'many': expected a whole number"
    assert [line.split()[0] for line in lines[6:8]] == ["5", "6"]
    folder, num_made = lines[-4].rsplit(" ", 1)
    assert (Path(folder).parent, num_made) == (Path("class-images"), "2")
    assert lines[-3] == "vase.ckpt single-file"
    assert lines[-2].endswith("('sks</w>',)")
    assert lines[-1].endswith(" GiB at the peak")
    assert {"vase-0.png", "vase-1.png", "base.png", "vase.ckpt"} <= {path.name for path in tmp_path.iterdir()}
