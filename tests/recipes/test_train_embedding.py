"""A new word from training to images, through the installed command: what it writes, resumes and is used for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.cli.main import main
from dreambooth.weights.read import read_model

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(dreambooth: Command, small_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps with two vectors and the average of the steps, and a checkpoint in the middle."""
    output = tmp_path_factory.mktemp("word") / "runs" / "rex"
    flags = (
        "--class-word backpack --trainee embedding --embedding-vectors 2 --steps 4 --ema-decay 0.5 --checkpoint-steps 2 "
        "--preview-steps 4 --validation-steps 2 --model-steps 2 --model-dtype float32"
    )
    prompts = ("--preview-prompts", "a sks", "a dog")
    done = dreambooth("train", "--model", small_model, "--photos", photos, *flags.split(), "--output", output, *prompts)
    assert done.returncode == 0, done.stderr
    assert "No class images: their captions do not say the new word, so they would change nothing." in done.stdout
    assert "training a new word of 2 vectors on" in done.stdout
    return output


def test_a_run_writes_a_few_numbers_and_resumes_bit_for_bit(run: Path, small_model: Path, tmp_path: Path) -> None:
    width = read_model(str(small_model)).parts["text_encoder"]["embeddings.token_embedding.weight"].shape[1]
    weights = load_file(run / "checkpoints" / "step-000004" / "weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {"text_encoder.word": (2, width)}
    assert sum(path.stat().st_size for path in (run / "checkpoints" / "step-000004").iterdir()) < 30_000
    assert not (run.parent / "class-images").exists()
    again = tmp_path / "rex"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "step-000004")
    (again / "model.safetensors").unlink()
    assert main(["train", "--resume", str(again)]) == 0
    expected, found = load_file(run / "model.safetensors"), load_file(again / "model.safetensors")
    assert list(expected) == ["emb_params"]
    assert torch.equal(found["emb_params"], expected["emb_params"])
    with safe_open(run / "model.safetensors", "pt") as file:
        said = file.metadata()
    assert said["dreambooth.word"] == "sks"
    assert said["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert json.loads(said["dreambooth.config"])["trainee"]["embedding_words"] == "backpack"


def test_the_run_is_its_base_model_with_the_word(run: Path, small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    base, trained, middle = (read_model(str(path)) for path in (small_model, run, run / "models" / "step-000002.safetensors"))
    assert (trained.num_steps, middle.num_steps, trained.family.resolution) == (4, 2, 64)
    assert len({base.digest(), trained.digest(), middle.digest()}) == 3
    flags = ["--prompt", "a sks", "--num-images", "1", "--sampling-steps", "1", "--device", "cpu", "--output"]
    assert main(["generate", "--model", str(run), *flags, str(tmp_path / "a")]) == 0
    with_file = ["--model", str(small_model), "--embedding", str(run)]
    assert main(["generate", *with_file, *flags, str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.count("Learned word 'sks': 2 vectors") == 2
    pictures = [next((tmp_path / name).glob("*.png")).read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    assert main(["inspect", str(run)]) == 0
    assert "the learned word 'sks', 2 vectors" in capsys.readouterr().out
    photos = ["--photos", str(tmp_path), "--class-word", "dog", "--output", str(tmp_path / "run")]
    for suffix in (".pt", ".bin"):
        word = tmp_path / f"sks{suffix}"
        assert main(["convert", str(run), str(word)]) == 0
        assert main(["generate", "--model", str(small_model), "--embedding", str(word), *flags, str(tmp_path / suffix)]) == 0
        assert next((tmp_path / suffix).glob("*.png")).read_bytes() == pictures[0]
    refused = {
        "strength would have no effect": ["convert", str(run), str(tmp_path / "sks.safetensors"), "--strength", "0.5"],
        "a learned word is written as .safetensors, .pt or .bin": ["convert", str(run), str(tmp_path / "folder")],
        "a learned word has no strength": ["generate", "--model", str(run), "--strength", "0.5", "--prompt", "sks"],
        "a training would lose the word": ["train", "--model", str(run), *photos],
    }
    for problem, arguments in refused.items():
        assert main(arguments) != 0
        assert problem in " ".join(capsys.readouterr().err.split())


def test_previews_show_the_word_and_leave_the_rest(run: Path) -> None:
    first, last = (run / "previews" / f"step-{step:06d}" for step in (0, 4))
    pictures = [(Image.open(path).tobytes(), Image.open(last / path.name).tobytes()) for path in sorted(first.iterdir())]
    assert [before == after for before, after in pictures] == [False, True]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event for event in events if event["event"] == "validation"]
    assert len(losses) == 3 and "prior_loss" not in losses[0]
