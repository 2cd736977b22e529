"""A LoRA from training to images, through the installed command: what it writes, resumes and is used for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.cli.main import main
from dreambooth.config import read_yaml
from dreambooth.weights.lora_apply import with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.read import read_base, read_model
from dreambooth.weights.settings import TrainedFromSettings

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(dreambooth: Command, small_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps at rank 4, with the base model's predictions for class images, and a checkpoint in the middle."""
    output = tmp_path_factory.mktemp("lora") / "runs" / "rex"
    flags = (
        "--class-word backpack --trainee lora --rank 4 --alpha 2 --targets all --learning-rate 1e-2 --steps 4 "
        "--num-prior-images 2 --prior-sampling-steps 2 --prior-target prediction --checkpoint-steps 2 --keep-checkpoints 3 "
        "--preview-steps 4 --validation-steps 2 --model-steps 2 --model-dtype float32"
    )
    done = dreambooth(
        "train", "--model", small_model, "--photos", photos, *flags.split(), "--output", output, "--preview-prompts", "a dog"
    )
    assert done.returncode == 0, done.stderr
    assert "training a LoRA of rank 4, alpha 2 for UNet and text encoder" in done.stdout
    return output


def test_checkpoints_hold_only_the_matrices(run: Path, small_model: Path) -> None:
    weights = load_file(run / "checkpoints" / "step-000004" / "weights.safetensors")
    assert {name.rpartition(".")[2] for name in weights} == {"down", "up"}
    num_bytes = sum(path.stat().st_size for path in (run / "checkpoints" / "step-000004").iterdir())
    assert num_bytes < 0.2 * small_model.stat().st_size
    assert not (run.parent / "prior-predictions").exists()


def test_a_stopped_run_resumes_bit_for_bit(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "rex"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "step-000004")
    (again / "model.safetensors").unlink()
    assert main(["train", "--resume", str(again)]) == 0
    expected, found = load_file(run / "model.safetensors"), load_file(again / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_file_says_what_it_is_for_and_holds_no_path(run: Path, photos: Path) -> None:
    with safe_open(run / "model.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["ss_network_dim"], said["ss_network_alpha"], said["ss_output_name"]) == ("4", "2", "rex")
    assert (said["modelspec.architecture"], said["modelspec.trigger_phrase"]) == ("stable-diffusion-v1/lora", "sks backpack")
    assert json.loads(said["ss_tag_frequency"]) == {"rex": {"photo of a sks backpack": 3}}
    assert said["ss_sd_model_name"] == "small.safetensors" and len(said["ss_sd_model_hash"]) == 8
    assert str(photos.parent) not in json.dumps(said) and str(run.parent) not in json.dumps(said)


def test_the_run_is_a_model_with_what_it_learned(run: Path, small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    base, trained, middle = (read_model(str(path)) for path in (small_model, run, run / "models" / "step-000002.safetensors"))
    assert (trained.num_steps, middle.num_steps) == (4, 2)
    assert len({base.digest(), trained.digest(), middle.digest()}) == 3
    assert trained.family.resolution == 64
    changed = {name for name, tensor in trained.parts["unet"].items() if not torch.equal(tensor, base.parts["unet"][name])}
    assert changed == {f"{layer}.weight" for layer in base.family.lora_targets("unet", "all")}
    flags = ["--prompt", "dog", "--num-images", "1", "--sampling-steps", "1", "--device", "cpu"]
    assert main(["generate", "--model", str(run), *flags, "--output", str(tmp_path / "a")]) == 0
    with_file = ["--model", str(small_model), "--lora", str(run)]
    assert main(["generate", *with_file, *flags, "--output", str(tmp_path / "b")]) == 0
    assert "LoRA rex at strength 1; words for prompts: sks backpack" in capsys.readouterr().out
    pictures = [next((tmp_path / name).glob("*.png")).read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    assert main(["convert", str(run), str(tmp_path / "whole.safetensors"), "--strength", "0.5"]) == 0
    half = read_model(str(tmp_path / "whole.safetensors"))
    name = "mid_block.attentions.0.proj_in.weight"
    between = 0.5 * (base.parts["unet"][name] + trained.parts["unet"][name])
    torch.testing.assert_close(half.parts["unet"][name], between)
    assert "ss_network_dim" not in half.metadata


def test_previews_show_what_the_written_file_does(run: Path) -> None:
    assert (run / "previews" / "over-time.png").is_file()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event for event in events if event["event"] == "validation"]
    assert losses[0]["prior_loss"] == pytest.approx(0, abs=1e-9), "the base model's own predictions are the target"
    assert losses[-1]["prior_loss"] > 0


def test_another_lora_is_trained_on_top_of_one(run: Path, small_model: Path, photos: Path, tmp_path: Path) -> None:
    above, half = tmp_path / "above", f"{run}:0.5"
    flags = (
        *("--class-word", "mug", "--token", "zwx", "--trainee", "lora", "--rank", "2", "--steps", "1", "--prior-weight", "0"),
        *("--preview-steps", "0", "--validation-steps", "0", "--lora-dropout", "0.5", "--model-dtype", "float32"),
    )
    asked = ["train", "--model", str(small_model), "--lora", half, "--photos", str(photos), "--output", str(above)]
    assert main([*asked, *flags]) == 0
    start = read_base(TrainedFromSettings(model=str(small_model), lora=(half,)))
    made_of = json.loads(read_lora_file(above / "model.safetensors").metadata["dreambooth.made_of"])
    assert made_of["base model"] == start.digest()
    assert read_model(str(above)).digest() == with_loras(start, read_loras([str(above)])).digest() != start.digest()
    config = read_yaml(above / "config.yaml")
    assert config["base"]["lora"] == [f"{run.absolute()}:0.5"]
