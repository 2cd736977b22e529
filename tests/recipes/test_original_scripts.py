"""The original's scripts as they are typed, from another folder than the repository's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: object, cwd: Path, without_packages: bool = False) -> subprocess.CompletedProcess[str]:
    interpreter = [sys.executable, *(["-E", "-S"] if without_packages else [])]
    command = [*interpreter, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=cwd)


@pytest.mark.slow
def test_pictures_of_prompts_in_a_file(golden_checkpoint: Path, tmp_path: Path) -> None:
    lines = ["a photo of a sks dog", "either/or", "very " * 60]
    (tmp_path / "prompts.txt").write_text("\n".join(lines), encoding="utf-8")
    small = ["--ddim_eta", "0.0", "--n_samples", 2, "--n_iter", 1, "--scale", "10.0", "--ddim_steps", 3, "--H", 64, "--W", 64]
    done = run("stable_txt2img.py", *small, "--ckpt", golden_checkpoint, "--from-file", "prompts.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    output = tmp_path / "outputs" / "txt2img-samples"
    long = "very-" * 16
    by_prompt = ["a photo of a sks dog_0.png", "either-or_0.png", f"{long.replace('-', ' ').strip()}_0.png"]
    assert sorted(path.name for path in output.iterdir()) == sorted([*by_prompt, "prompts-0000.png", "samples"])
    assert sorted(path.name for path in (output / "samples").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    for name, prompt in zip(by_prompt, lines, strict=True):
        with Image.open(output / name) as image:
            record = json.loads(image.text["dreambooth"])  # type: ignore[attr-defined]
        assert (record["prompt"], record["guidance_scale"], record["steps"]) == (prompt.strip(), 10.0, 3)
    assert "Images in outputs/txt2img-samples:" in done.stdout


@pytest.mark.slow
def test_a_model_file_is_pruned_under_both_names_of_the_script(golden_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(golden_checkpoint.read_bytes())
    done = run("prune-ckpt.py", "--ckpt", "model.ckpt", cwd=tmp_path)  # which runs prune_ckpt.py
    assert (done.returncode, done.stderr) == (0, "")
    assert "model.ckpt: 0.04 GB; model-pruned.ckpt: 0.01 GB." in done.stdout
    pruned = torch.load(tmp_path / "model-pruned.ckpt", weights_only=True)
    assert pruned["global_step"] == 470000


@pytest.mark.parametrize("script", ["stable_txt2img.py", "prune_ckpt.py", "prune-ckpt.py"])
def test_without_the_package_one_line_says_what_to_type(script: str, tmp_path: Path) -> None:
    done = run(script, cwd=tmp_path, without_packages=True)
    line = "No module named 'dreambooth'. Install the project first: pip install -c constraints.txt -e .\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.parametrize(
    ("script", "module"),
    [("../main.py", "main"), ("stable_txt2img.py", "txt2img"), ("prune_ckpt.py", "prune"), ("prune-ckpt.py", "prune")],
)
def test_ctrl_c_while_a_script_loads_shows_no_traceback(script: str, module: str, tmp_path: Path) -> None:
    """A package of the same name stands for ours, and is interrupted while it is imported."""
    (tmp_path / "dreambooth" / "compat").mkdir(parents=True)
    for name in ("__init__.py", "compat/__init__.py"):
        (tmp_path / "dreambooth" / name).touch()
    loading = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('the import went on')\n"
    (tmp_path / "dreambooth" / "compat" / f"{module}.py").write_text(loading)
    command = [sys.executable, str(SCRIPTS / script)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
