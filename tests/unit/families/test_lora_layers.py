"""Layers for low-rank matrices: their counts are those of the published programs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreambooth.families.family import LoraTargets
from dreambooth.families.sd1 import StableDiffusion1
from tests.conftest import GOLDEN


@pytest.mark.parametrize(
    ("part", "targets", "num_layers", "parameters_per_rank"),
    [
        ("unet", "attention", 128, 199_296),
        ("unet", "transformer", 192, 423_936),
        ("text_encoder", "attention", 48, 73_728),
        ("text_encoder", "transformer", 72, 165_888),
    ],
)
def test_targets_are_those_of_other_programs(
    full: StableDiffusion1, part: str, targets: LoraTargets, num_layers: int, parameters_per_rank: int
) -> None:
    layers, blueprint = full.lora_targets(part, targets), full.parts[part].blueprint
    assert len(layers) == num_layers
    assert sum(sum(blueprint[f"{name}.weight"][:2]) for name in layers) == parameters_per_rank


def test_the_targets_with_convolutions_are_those_of_kohyas_programs(full: StableDiffusion1) -> None:
    recorded = (GOLDEN / "kohya_layer_names.txt").read_text(encoding="utf-8").splitlines()
    unet = {name for name in recorded if name.startswith("lora_unet_")}
    recorded_of = replace(full, unet=replace(full.unet, widths=(64, 64, 128, 128)))
    assert {f"lora_unet_{name.replace('.', '_')}" for name in recorded_of.lora_targets("unet", "all")} == unet
    assert full.lora_targets("text_encoder", "all") == full.lora_targets("text_encoder", "transformer")


def test_targets_of_attention_are_targets_of_its_block(full: StableDiffusion1) -> None:
    for part in ("unet", "text_encoder"):
        assert set(full.lora_targets(part, "attention")) < set(full.lora_targets(part, "transformer"))
