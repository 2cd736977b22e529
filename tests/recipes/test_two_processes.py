"""Two processes share a run, and it is the run of one process: the same pictures, the same updates, the same exposure."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.runs.events import read_events


def launch(*arguments: object, processes: int, cwd: Path) -> subprocess.Popen[str]:
    """`dreambooth` in so many processes, as torchrun starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port), "-m"]
    command += ["dreambooth", "train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def arguments(photos: Path, run: Path, *, steps: int = 3, batch_size: int = 3) -> list[object]:
    # The large epsilon makes an update a smooth function of the gradient. Without it AdamW's first steps have the size of the
    # learning rate wherever a gradient is not exactly zero, and its rounding decides their sign.
    flags = "--preset toybox --class-word backpack --num-prior-images 4 --prior-sampling-steps 2 --prior-batch-size 1 "
    flags += "--preview-steps 2 --preview-prompts {instance_prompt} --validation-steps 1 --device cpu --adam-epsilon 0.01"
    prior = ["--prior-examples", "images", "--class-prompt", "photo of a {class_word}", "--prior-weight", 1]
    return [*flags.split(), *prior, "--photos", photos, "--steps", steps, "--batch-size", batch_size, "--output", run]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "weights.safetensors")


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str]]:
    """By the number of processes: a finished run, in a folder of its own, and what was said."""
    made = {}
    for count in (1, 2):
        folder = tmp_path_factory.mktemp(f"processes-{count}")
        code, output, errors = finished(launch(*arguments(photos, folder / "run"), processes=count, cwd=folder))
        assert code == 0, errors
        made[count] = folder / "run", output
    return made


@pytest.mark.slow
def test_the_weights_are_those_of_one_process(runs: dict[int, tuple[Path, str]]) -> None:
    one, two = (weights(runs[count][0], 3) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.slow
def test_losses_previews_and_files_are_those_of_one_process(runs: dict[int, tuple[Path, str]]) -> None:
    events = {count: read_events(run / "events.jsonl") for count, (run, _) in runs.items()}
    assert [event["event"] for event in events[1]] == [event["event"] for event in events[2]]
    for name in ("loss", "instance_loss", "prior_loss", "gradient_norm"):
        one, two = ([event[name] for event in events[count] if event["event"] == "step"] for count in (1, 2))
        assert two == pytest.approx(one, rel=1e-5), name
    files = {
        count: sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
        for count, (run, _) in runs.items()
    }
    assert files[1] == files[2]


@pytest.mark.slow
def test_the_class_images_are_the_same_pictures(runs: dict[int, tuple[Path, str]]) -> None:
    sets = [next((run.parent / "class-images").iterdir()) for run, _ in runs.values()]
    for path in sorted(sets[0].iterdir()):
        assert path.read_bytes() == (sets[1] / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_each_process_makes_its_share_of_the_class_images(runs: dict[int, tuple[Path, str]]) -> None:
    assert "class images: 4/4 images" in runs[1][1]
    assert "class images: 2/2 images" in runs[2][1]


@pytest.mark.slow
def test_one_process_speaks_and_the_exposure_is_told(runs: dict[int, tuple[Path, str]]) -> None:
    alone, shared = runs[1][1].splitlines(), runs[2][1].splitlines()
    assert "2 processes share each step" in runs[2][1]
    assert sum("photos of 'sks backpack'" in line for line in shared) == 1
    exposures = [line for line in alone if line.startswith("Each of ")]
    assert exposures == ["Each of the 3 photos was seen 3 times", "Each of the 4 class images was seen 2 to 3 times"]
    assert [line for line in shared if line.startswith("Each of ")] == exposures


@pytest.mark.slow
def test_mistakes_end_all_processes(photos: Path, tmp_path: Path) -> None:
    code, _, errors = finished(launch(*arguments(photos, tmp_path / "run", batch_size=1), processes=3, cwd=tmp_path))
    assert code != 0
    assert "3 processes for the 2 examples of a step: some would have nothing to do\nUse --batch-size 2 or more" in errors
    assert errors.count("would have nothing to do") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_signal_to_the_launcher_saves_the_step_and_the_run_goes_on_in_one_process(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(*arguments(photos, run, steps=2000), processes=2, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(read_events(run / "events.jsonl")) < 6:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, output, errors = finished(process)
    assert code != 0
    [saved] = (run / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert f"The run is saved at step {step}." in output + errors
    code, output, _ = finished(launch("--resume", run, "--steps", 2000, "--max-train-hours", 1e-6, processes=1, cwd=tmp_path))
    assert code == 0
    assert f"Resuming from step {step}" in output
