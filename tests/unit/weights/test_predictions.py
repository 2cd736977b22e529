"""Files that say that they predict the velocity, or were trained with zero terminal SNR, are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder

Save = Callable[[dict[str, Tensor]], Path]
VELOCITY = "this model predicts v_prediction"
ZERO = "this model was trained with zero terminal SNR"


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(("marker", "message"), [("v_pred", VELOCITY), ("ztsnr", ZERO)])
def test_marker_tensors(checkpoint: dict[str, Tensor], save: Save, prefix: str, marker: str, message: str) -> None:
    path = save(checkpoint | {prefix + marker: torch.zeros(0)})
    with pytest.raises(ModelFileError, match=f"{path}: {message}.*stated by the tensor {prefix}{marker}"):
        read_model(str(path))


@pytest.mark.parametrize("key", ["modelspec.prediction_type", "modelspec.predict_key"])
def test_metadata(checkpoint: dict[str, Tensor], tmp_path: Path, key: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(checkpoint, path, metadata={key: "v"})
    with pytest.raises(ModelFileError, match=f"{VELOCITY}.*stated by {key} v"):
        read_model(str(path))


def test_metadata_of_a_folder(tiny: ModelWeights, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", tiny, dtype=None, metadata={"modelspec.prediction_type": "v"})
    with pytest.raises(ModelFileError, match=f"{VELOCITY}.*stated by modelspec.prediction_type v"):
        read_model(str(tmp_path / "model"))


def test_a_schedule_that_ends_without_signal(checkpoint: dict[str, Tensor], save: Save) -> None:
    checkpoint["alphas_cumprod"] = checkpoint["alphas_cumprod"] - checkpoint["alphas_cumprod"][-1]
    with pytest.raises(ModelFileError, match=f"{ZERO}.*the tensor alphas_cumprod, which ends at 0"):
        read_model(str(save(checkpoint)))


def test_another_stored_schedule_is_a_warning(checkpoint: dict[str, Tensor], save: Save) -> None:
    checkpoint["alphas_cumprod"] = checkpoint["alphas_cumprod"] * 0.9
    report = read_model(str(save(checkpoint))).report
    assert report.warnings == (
        "The stored schedule is not the family's own; it is recomputed, so pictures may differ from those of other programs.",
    )
    assert report.minor_notes == ()


def test_a_schedule_of_zeros_is_no_sign(checkpoint: dict[str, Tensor], save: Save) -> None:
    checkpoint["alphas_cumprod"] = checkpoint["alphas_cumprod"] * 0
    assert "the stored schedule is not the family's own" in read_model(str(save(checkpoint))).report.notes[0]


def test_the_yaml_beside_a_file(checkpoint: dict[str, Tensor], save: Save) -> None:
    path = save(checkpoint)
    path.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}", encoding="utf-8")
    with pytest.raises(ModelFileError, match=f"{VELOCITY}.*stated by model.params.parameterization v"):
        read_model(str(path))
    path.with_suffix(".yaml").write_text("]", encoding="utf-8")
    assert read_model(str(path)).report.title == "Stable Diffusion 1"
