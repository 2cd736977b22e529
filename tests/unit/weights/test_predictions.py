"""Files that say that they predict the velocity, or that their schedule ends without signal, are read and written as that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

Save = Callable[[dict[str, Tensor]], Path]


def kind(path: Path) -> tuple[str, bool]:
    family = read_model(str(path)).family
    return family.prediction, family.has_zero_terminal_snr


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_marker_tensors(checkpoint: dict[str, Tensor], save: Save, prefix: str) -> None:
    path = save(checkpoint | {f"{prefix}v_pred": torch.zeros(0)})
    assert kind(path) == ("velocity", False)
    assert read_model(str(path)).report.leftover == ()
    path = save(checkpoint | {f"{prefix}v_pred": torch.zeros(0), f"{prefix}ztsnr": torch.zeros(0)})
    assert kind(path) == ("velocity", True)
    path = save(checkpoint | {f"{prefix}ztsnr": torch.zeros(0)})
    with pytest.raises(ModelFileError, match=f"{path}: .*zero terminal SNR .stated by the tensor {prefix}ztsnr"):
        read_model(str(path))


@pytest.mark.parametrize("key", ["modelspec.prediction_type", "modelspec.predict_key"])
def test_metadata(checkpoint: dict[str, Tensor], tmp_path: Path, key: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(checkpoint, path, metadata={key: "v"})
    assert kind(path) == ("velocity", False)
    assert read_model(str(path), prediction="epsilon").family.prediction == "epsilon"


def test_a_schedule_that_ends_without_signal(checkpoint: dict[str, Tensor], save: Save) -> None:
    checkpoint["alphas_cumprod"] = checkpoint["alphas_cumprod"] - checkpoint["alphas_cumprod"][-1]
    path = save(checkpoint)
    with pytest.raises(ModelFileError, match="the tensor alphas_cumprod, which ends at 0"):
        read_model(str(path))
    assert read_model(str(path), prediction="velocity").family.has_zero_terminal_snr


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ""])
@pytest.mark.parametrize(("prediction", "is_zero"), [("epsilon", False), ("velocity", False), ("velocity", True)])
def test_every_form_says_what_it_predicts(
    tiny: ModelWeights, tmp_path: Path, suffix: str, prediction: str, is_zero: bool
) -> None:
    family = tiny.family.with_prediction(prediction, has_zero_terminal_snr=is_zero)  # type: ignore[arg-type]
    path = tmp_path / f"model{suffix}"
    write = write_single_file if suffix else write_diffusers_folder
    stale = {"modelspec.prediction_type": "v" if prediction == "epsilon" else "epsilon"}  # of another program's reading
    write(path, replace(tiny, family=family), dtype=None, metadata=stale)
    read = read_model(str(path))
    assert (read.family.prediction, read.family.has_zero_terminal_snr) == (prediction, is_zero)
    assert all(torch.equal(read.parts[part][name], tensor) for part in tiny.parts for name, tensor in tiny.parts[part].items())
    if suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            markers = [name for name in ("v_pred", "ztsnr") if name in file.keys()]  # noqa: SIM118 - it is not iterable
            assert markers == [*(["v_pred"] if prediction == "velocity" else []), *(["ztsnr"] if is_zero else [])]
            assert file.metadata()["modelspec.prediction_type"] == ("v" if prediction == "velocity" else "epsilon")


def test_another_prediction_makes_another_digest(tiny: ModelWeights) -> None:
    """Class images and cached predictions of one must not be taken for the other's."""
    digests = {
        replace(tiny, family=tiny.family.with_prediction(prediction, has_zero_terminal_snr=zero)).digest()  # type: ignore[arg-type]
        for prediction, zero in (("epsilon", False), ("velocity", False), ("velocity", True))
    }
    assert len(digests) == 3


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
    assert kind(path) == ("velocity", False)
    path.with_suffix(".yaml").write_text("]", encoding="utf-8")
    assert read_model(str(path)).report.title == "Stable Diffusion 1"
