from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.weights.average import average_doubt, distance
from dreambooth.weights.read import read_model

UNET = "model.diffusion_model."


def write(folder: Path, checkpoint: dict[str, Tensor], *, shift: float, metadata: dict[str, str] | None = None) -> str:
    """A file whose average is the weights plus `shift`."""
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + shift
        for name, tensor in checkpoint.items()
        if name.startswith(UNET)
    }
    path = folder / "model.safetensors"
    save_file({**checkpoint, **averages}, path, metadata=metadata)
    return str(path)


@pytest.mark.parametrize(
    ("shift", "metadata", "reason"),
    [
        (
            1.0,
            None,
            "The moving average in this file (model_ema.*) is 100% away from its weights, more than averaging explains",
        ),
        (0.0, {"sd_merge_recipe": '{"type": "webui"}'}, "This file is a merge of models (metadata sd_merge_recipe)"),
        (0.01, {"checkpoint_merge_recipe": "a + b"}, "This file is a merge of models (metadata checkpoint_merge_recipe)"),
        (0.01, {"modelspec.merged_from": "a, b"}, "This file is a merge of models (metadata modelspec.merged_from)"),
    ],
)
def test_the_average_of_another_model_is_not_used(
    checkpoint: dict[str, Tensor], tmp_path: Path, shift: float, metadata: dict[str, str], reason: str
) -> None:
    model = write(tmp_path, checkpoint, shift=shift, metadata=metadata)
    read = read_model(model)
    assert torch.equal(read.parts["unet"]["conv_in.bias"], checkpoint[UNET + "input_blocks.0.0.bias"])
    assert read.report.unet_weights == "raw"
    assert read.report.also_there == "their moving average (model_ema.*); --weights ema reads it"
    assert read.report.warnings == (
        f"{reason}: the weights themselves are used, not the average. --weights ema reads the average.",
    )
    # Asked for by name, it is used, with a warning.
    average = read_model(model, weights="ema").report
    assert average.unet_weights == "ema"
    assert average.warnings == (
        f"{reason}: the average may belong to another model. --weights raw reads the weights themselves.",
    )
    assert read_model(model, weights="raw").report.warnings == ()


@pytest.mark.parametrize("metadata", [None, {"sd_merge_recipe": ""}, {"modelspec.title": "x"}])
def test_an_average_of_the_weights_is_used(checkpoint: dict[str, Tensor], tmp_path: Path, metadata: dict[str, str]) -> None:
    report = read_model(write(tmp_path, checkpoint, shift=0.05, metadata=metadata)).report
    assert (report.unet_weights, report.warnings) == ("ema", ())
    assert report.which_weights == (
        "UNet weights: the EMA weights; the file also holds the last weights (model.diffusion_model.*); "
        "--weights raw reads them."
    )


def test_the_golden_average_belongs_to_its_weights(golden_checkpoint: Path) -> None:
    raw, average = (read_model(str(golden_checkpoint), weights=weights).parts["unet"] for weights in ("raw", "ema"))
    assert 0.001 < distance(raw, average) < 0.02
    assert average_doubt(raw, average, {}) is None


def test_distance_is_relative_and_skips_what_cannot_be_compared() -> None:
    raw = {"a": torch.full((4, 5), 2.0), "b": torch.ones(3), "c": torch.ones(2, 2), "d": torch.ones(2, 2)}
    average = {"a": torch.full((4, 5), 1.0), "b": torch.zeros(3), "c": torch.ones(2, 3)}
    assert distance(raw, average) == 0.5
    assert distance({}, average) == 0
    assert distance({"a": torch.zeros(2, 2)}, {"a": torch.ones(2, 2)}) == 0
