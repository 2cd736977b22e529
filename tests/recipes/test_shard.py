"""Weights, gradients and means are spread over two processes, and it is the run of one process, whoever goes on with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dreambooth.config import parse_settings, read_yaml
from dreambooth.display import Display
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import DreamboothError
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.preflight import check_everything

MakeSettings = Callable[..., TrainSettings]
LARGEST_NORM = 0.5
# The norm of millions of float32 numbers depends on the number of sums that it is cut into. Gradients are scaled by it.
NORM_ROUNDING = 1e-4


def launch(*arguments: object, cwd: Path) -> str:
    """What `dreambooth train` says in two processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    done = subprocess.run(
        [*launcher, "-m", "dreambooth", "train", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def changed(settings: TrainSettings, output: Path, **memory: Any) -> TrainSettings:
    return settings.model_copy(
        update={
            "memory": settings.memory.model_copy(update=memory),
            "output": settings.output.model_copy(update={"output": output}),
        }
    )


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Three steps in one process, the same steps spread over two, and what was said of these."""
    folder = tmp_path_factory.mktemp("shard")
    # The large epsilon makes an update a smooth function of the gradient. Without it AdamW's first steps have the size of the
    # learning rate wherever a gradient is not exactly zero, and its rounding decides their sign.
    flags = "--preset toybox --class-word backpack --num-prior-images 2 --prior-sampling-steps 2 --preview-steps 4 "
    flags += "--preview-prompts {instance_prompt} --validation-steps 2 --checkpoint-steps 2 --steps 3 --batch-size 3 "
    flags += f"--device cpu --adam-epsilon 0.01 --max-gradient-norm {LARGEST_NORM} --ema-decay 0.9 --shard"
    prior = ("--prior-examples", "images", "--class-prompt", "photo of a {class_word}", "--prior-weight", 1)
    prior += ("--text-encoder-learning-rate", 2e-4)
    said = launch(*flags.split(), *prior, "--photos", photos, "--output", folder / "sharded", cwd=folder)
    settings = parse_settings(TrainSettings, read_yaml(folder / "sharded" / "config.yaml"), where="test")
    assert settings.memory.shard
    train(changed(settings, folder / "alone", shard=None), SilentDisplay())
    return folder / "alone", folder / "sharded", said


def assert_same_state(run: Path, expected: Path, *, step: int = 3) -> None:
    for name in ("weights", "average", "optimizer"):
        mine, theirs = (load_file(one / "checkpoints" / f"step-{step:06d}" / f"{name}.safetensors") for one in (run, expected))
        assert mine.keys() == theirs.keys()
        for key, tensor in theirs.items():
            rtol = NORM_ROUNDING if name == "optimizer" else 1e-6
            torch.testing.assert_close(mine[key], tensor, rtol=rtol, atol=1e-7, msg=f"{name} {key}")


def without_last_step(run: Path, copy: Path) -> Path:
    """A copy of a run of three steps that was killed after its second."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "step-000003")
    (copy / "model.safetensors").unlink()
    return copy


@pytest.mark.slow
def test_weights_means_and_average_are_those_of_one_process(runs: tuple[Path, Path, str]) -> None:
    alone, sharded, _ = runs
    assert_same_state(sharded, alone, step=2)
    assert_same_state(sharded, alone)
    model, expected = load_file(sharded / "model.safetensors"), load_file(alone / "model.safetensors")
    assert model.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(model[name], tensor, rtol=1e-3, atol=1e-6, msg=name)  # half precision


@pytest.mark.slow
def test_losses_and_norms_are_those_of_one_process_and_each_event_is_told_once(runs: tuple[Path, Path, str]) -> None:
    alone, sharded = (read_events(run / "events.jsonl") for run in runs[:2])
    assert [event["event"] for event in alone] == [event["event"] for event in sharded]
    for kind, name in (
        *(("step", name) for name in ("loss", "instance_loss", "prior_loss", "gradient_norm")),
        *(("validation", name) for name in ("instance_loss", "prior_loss")),
    ):
        one, two = ([event[name] for event in events if event["event"] == kind] for events in (alone, sharded))
        assert len(one) == (3 if kind == "step" else 2)
        assert two == pytest.approx(one, rel=NORM_ROUNDING if name == "gradient_norm" else 1e-6), name
    assert all(event["gradient_norm"] > LARGEST_NORM for event in alone if event["event"] == "step")


@pytest.mark.slow
def test_the_files_are_those_of_one_process_and_one_process_speaks(runs: tuple[Path, Path, str]) -> None:
    files = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in runs[:2]]
    assert files[0] == files[1]
    pictures = [np.asarray(Image.open(next((run / "previews").glob("step-*/*.png"))), dtype=np.int16) for run in runs[:2]]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    for words in ("step 0: previews in", "saved", "The model is"):
        assert sum(words in line for line in runs[2].splitlines()) == (2 if words == "saved" else 1), words


@pytest.mark.slow
def test_one_process_goes_on_with_a_spread_run(runs: tuple[Path, Path, str], tmp_path: Path) -> None:
    alone, sharded, _ = runs
    run = without_last_step(sharded, tmp_path / "run")
    assert resume(run, {"memory.shard": False}, SilentDisplay()).step == 3
    assert_same_state(run, alone)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_spread_and_recomputed_in_small_passes(
    runs: tuple[Path, Path, str], tmp_path: Path
) -> None:
    alone, _, _ = runs
    run = without_last_step(alone, tmp_path / "run")
    levers = ("--gradient-checkpointing", "all", "--micro-batch-size", 2)
    assert "Resuming from step 2" in launch("--resume", run, "--shard", *levers, cwd=tmp_path)
    assert_same_state(run, alone)


class Several(OneProcess):
    """Says that there are three processes; enough for the checks before a run."""

    count = 3


def refusal(settings: TrainSettings, processes: OneProcess, display: Display) -> str:
    with pytest.raises(DreamboothError) as caught:
        check_everything(settings, display, processes, is_resume=False)
    return str(caught.value)


def test_one_process_has_nothing_to_spread_over(run_settings: MakeSettings, display: Display) -> None:
    text = refusal(run_settings(memory={"shard": True}), OneProcess(), display)
    assert (
        "shard distributes the weights over several processes, but there is only one\nStart several: torchrun --nproc" in text
    )
    assert "or use --no-shard" in text


@pytest.mark.parametrize(
    ("sections", "message", "hint"),
    [
        (
            {"loop": {"batch_size": 2}},
            "the 4 examples of a step do not divide evenly over 3 processes",
            "Use --batch-size 3 (a step then",
        ),
        (
            {"loop": {"batch_size": 7, "gradient_accumulation": 2}},
            "the 28 examples of a step do not divide evenly",
            "Use --batch-size 9 (a step",
        ),
        (
            {"loop": {"batch_size": 4}, "prior": {"prior_weight": 0}},
            "the 4 examples of a step do not divide evenly",
            "Use --batch-size 6 (a step",
        ),
        ({"loop": {"batch_size": 3}, "optimizer": {"optimizer": "adafactor"}}, "optimizer is adafactor, but shard", "adamw"),
        (
            {"loop": {"batch_size": 3, "compile": "blocks"}},
            "compile is blocks, which does not work with shard",
            "--compile off",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_spread_is_refused_with_a_way_out(
    run_settings: MakeSettings, display: Display, sections: dict[str, Any], message: str, hint: str
) -> None:
    if sections.get("prior") == {"prior_weight": 0}:
        sections = {**sections, "prior": {"prior_weight": 0, "num_prior_images": 200, "prior_sampling_steps": 50}}
    text = refusal(run_settings(**sections, memory={"shard": True}), Several(), display)
    assert message in text
    assert hint in text
    assert "--no-shard" in text


def test_examples_that_divide_evenly_may_be_spread(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"batch_size": 3, "gradient_accumulation": 2}, memory={"shard": True})
    assert check_everything(settings, display, Several(), is_resume=False).plan.shard
