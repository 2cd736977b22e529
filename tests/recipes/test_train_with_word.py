"""A LoRA and a whole model trained together with a new word, through the installed command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dreambooth.cli.main import main
from dreambooth.weights.read import read_model

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(params=["lora", "full"])
def run(
    request: pytest.FixtureRequest,
    dreambooth: Command,
    small_model: Path,
    photos: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Four steps with two vectors, with class images, a checkpoint and a model in the middle."""
    output = tmp_path_factory.mktemp(request.param) / "runs" / "rex"
    flags = (
        f"--class-word backpack --trainee {request.param} --embedding-vectors 2 --steps 4 --ema-decay 0.5 --checkpoint-steps 2 "
        "--num-prior-images 2 --prior-sampling-steps 1 --preview-steps 4 --validation-steps 2 --model-steps 2 "
        f"--model-dtype float32 --learning-rate 1e-3 --prior-target {'prediction' if request.param == 'lora' else 'noise'}"
    )
    texts = ("--embedding-words", "small dog", "--preview-prompts", "a sks", "a dog")
    done = dreambooth("train", "--model", small_model, "--photos", photos, *flags.split(), "--output", output, *texts)
    assert done.returncode == 0, done.stderr
    assert "and a new word of 2 vectors on" in done.stdout
    return output


def test_a_run_with_a_word_is_resumed_and_used(run: Path, small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    vectors = run / "embeddings" / "model.safetensors", run / "models" / "embeddings" / "step-000002.safetensors"
    assert all(list(load_file(word)) == ["emb_params"] for word in vectors)
    again = tmp_path / "again"
    shutil.copytree(run, again)
    for path in (again / "checkpoints" / "step-000004", again / "embeddings"):
        shutil.rmtree(path)
    (again / "model.safetensors").unlink()
    assert main(["train", "--resume", str(again)]) == 0
    for name in ("model.safetensors", "embeddings/model.safetensors"):
        found, expected = load_file(again / name), load_file(run / name)
        assert found.keys() == expected.keys() and all(found[key].equal(tensor) for key, tensor in expected.items())
    trained, middle = read_model(str(run)), read_model(str(run / "models" / "step-000002.safetensors"))
    assert [word.word for model in (trained, middle) for word in model.words] == ["sks", "sks"]
    assert trained.digest() != middle.digest()
    _check_use(run, small_model, tmp_path, capsys)


def _check_use(run: Path, small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    """Images are the same however the run is named; it is converted, inspected, and refused where its word would be lost."""
    capsys.readouterr()
    sample = ["--prompt", "a sks", "--num-images", "1", "--sampling-steps", "1", "--device", "cpu", "--output"]
    final, vectors = run / "model.safetensors", run / "embeddings" / "model.safetensors"
    ways = {"run": ["--model", str(run)]}
    converted = tmp_path / "whole.safetensors"
    assert main(["convert", str(run), str(converted)]) == 0
    assert (
        f"Wrote the learned word 'sks' to {tmp_path / 'embeddings' / 'whole.safetensors'}"
        in capsys.readouterr().out.replace("\n", "")
    )
    ways["converted"] = ["--model", str(converted)]
    if run.name == "lora":
        beside = ["--model", str(small_model), "--lora", str(final)]
        ways |= {"lora": beside, "both": [*beside, "--embedding", str(vectors)]}
    pictures = {}
    for name, way in ways.items():
        assert main(["generate", *way, *sample, str(tmp_path / name)]) == 0
        assert "Learned word 'sks': 2 vectors" in capsys.readouterr().out
        pictures[name] = next((tmp_path / name).glob("*.png")).read_bytes()
    assert len(set(pictures.values())) == 1
    assert main(["inspect", str(run)]) == 0
    assert "Learned word, which belongs to the" in capsys.readouterr().out
    if run.name == "lora":
        assert main(["lora", "resize", str(run), str(tmp_path / "small.safetensors"), "--rank", "2"]) == 0
        assert f"The learned word 'sks' stays in its own file: --embedding {vectors}" in capsys.readouterr().out.replace(
            "\n", ""
        )
    photos = ["--photos", str(tmp_path), "--class-word", "dog", "--output", str(tmp_path / "next")]
    assert main(["train", "--model", str(run), *photos]) != 0
    assert "a training would lose the word" in " ".join(capsys.readouterr().err.split())
