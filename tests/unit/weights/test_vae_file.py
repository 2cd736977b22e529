"""`--vae FILE`: a model without a VAE, or with another one, in every form of the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

Tensors = dict[str, Tensor]
VAE = "first_stage_model."


@pytest.fixture
def other(tiny: ModelWeights) -> ModelWeights:
    """The tiny model with another VAE."""
    vae = {name: tensor * 2 for name, tensor in tiny.parts["vae"].items()}
    return replace(tiny, parts={**tiny.parts, "vae": vae})


@pytest.fixture
def without_vae(checkpoint: Tensors, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in checkpoint.items() if not name.startswith(VAE)}, path)
    return path


def whole_checkpoint(other: ModelWeights, folder: Path) -> Path:
    write_single_file(folder / "other.safetensors", other, dtype=None, metadata={})
    return folder / "other.safetensors"


def with_prefix(other: ModelWeights, folder: Path) -> Path:
    tensors = load_file(whole_checkpoint(other, folder))
    save_file({name: tensor for name, tensor in tensors.items() if name.startswith(VAE)}, folder / "vae.safetensors")
    return folder / "vae.safetensors"


def bare(other: ModelWeights, folder: Path) -> Path:
    tensors = load_file(whole_checkpoint(other, folder))
    own = {name.removeprefix(VAE): tensor for name, tensor in tensors.items() if name.startswith(VAE)}
    torch.save({"state_dict": own | {"loss.logvar": torch.zeros(())}, "epoch": 3}, folder / "vae.pt")
    return folder / "vae.pt"


def diffusers_folder(other: ModelWeights, folder: Path) -> Path:
    write_diffusers_folder(folder / "other", other, dtype=None, metadata={})
    return folder / "other"


def its_folder_of_the_vae(other: ModelWeights, folder: Path) -> Path:
    return diffusers_folder(other, folder) / "vae"


def its_file(other: ModelWeights, folder: Path) -> Path:
    return its_folder_of_the_vae(other, folder) / "diffusion_pytorch_model.safetensors"


FORMS = [whole_checkpoint, with_prefix, bare, diffusers_folder, its_folder_of_the_vae, its_file]


@pytest.mark.parametrize("form", FORMS)
def test_a_vae_from_another_file(
    other: ModelWeights, without_vae: Path, tmp_path: Path, form: Callable[[ModelWeights, Path], Path]
) -> None:
    read = read_model(str(without_vae), vae=form(other, tmp_path))
    assert read.digest() == other.digest()
    assert read.report.leftover == ()


def test_it_replaces_the_models_own(other: ModelWeights, tiny: ModelWeights, checkpoint: Tensors, tmp_path: Path) -> None:
    vae, path = whole_checkpoint(other, tmp_path), tmp_path / "model.safetensors"
    save_file(checkpoint, path)
    assert read_model(str(path)).digest() == tiny.digest()
    read = read_model(str(path), vae=vae)
    assert read.digest() == other.digest()
    assert read.report.parts[1].path == vae


def test_in_a_folder_it_replaces_or_completes(other: ModelWeights, tiny: ModelWeights, tmp_path: Path) -> None:
    vae, folder = whole_checkpoint(other, tmp_path), tmp_path / "model"
    write_diffusers_folder(folder, tiny, dtype=None, metadata={})
    assert read_model(str(folder), vae=vae).digest() == other.digest()
    for path in (folder / "vae").iterdir():
        path.unlink()
    assert read_model(str(folder), vae=vae).digest() == other.digest()
    with pytest.raises(ModelFileError, match="vae: no weights here") as caught:
        read_model(str(folder))
    assert caught.value.hint == "Give the VAE of another model, or a file of a VAE, with --vae FILE."


def test_a_file_without_a_vae_is_offered_one(without_vae: Path) -> None:
    with pytest.raises(ModelFileError, match="the file has no VAE") as caught:
        read_model(str(without_vae))
    assert caught.value.hint == "Give the VAE of another model, or a file of a VAE, with --vae FILE."


def test_a_file_that_is_no_vae_is_named(without_vae: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"{without_vae}: there is no VAE in this file"):
        read_model("toybox", vae=without_vae)
    with pytest.raises(ModelFileError, match="there is no VAE in this folder"):
        read_model("toybox", vae=tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        read_model("toybox", vae=tmp_path / "missing.pt")


def test_a_vae_of_other_latents_is_refused(other: ModelWeights, without_vae: Path, tmp_path: Path) -> None:
    path = bare(other, tmp_path)
    tensors = torch.load(path, weights_only=True)["state_dict"]
    tensors["decoder.conv_in.weight"] = torch.zeros(64, 16, 3, 3)
    torch.save(tensors, path)
    with pytest.raises(ModelFileError, match=f"{path}: decoder.conv_in.weight has shape|{VAE}decoder.conv_in.weight has shape"):
        read_model(str(without_vae), vae=path)
