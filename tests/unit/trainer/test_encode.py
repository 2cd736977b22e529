"""What the frozen encoders give to training: texts once each, with their pooled vectors, and an autoencoder in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.components import Components
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.memory.plan import PRESETS
from dreambooth.memory.settings import MemoryPreset
from dreambooth.runtime.precision import choose_precision
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainer.assembly import TrainingSetup, dtypes_for_training, place_for_training
from dreambooth.trainer.encode import encode_captions
from dreambooth.training.settings import LoopSettings, OptimizerSettings
from tests.random_weights import random_model

CPU = torch.device("cpu")


@torch.no_grad()
def test_a_caption_is_encoded_once_with_its_pooled_vector(golden_xl_float32: Components) -> None:
    model, read = golden_xl_float32, []
    hook = model.parts["text_encoder_2"].register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    captions = ["photo of a sks container", "photo of a container"]
    texts = encode_captions(model, [*captions, *captions], as_ids=False, device=CPU)
    hook.remove()
    assert list(texts) == captions and len(read) == 2
    for caption, text in texts.items():
        expected = model.family.encode_text(model.parts, model.family.tokenize(model.tokenizer, [caption]))
        assert isinstance(text, Conditioning) and text.pooled_BD is not None and expected.pooled_BD is not None
        assert torch.equal(text.states_BLD, expected.states_BLD[0]) and torch.equal(text.pooled_BD, expected.pooled_BD[0])
        assert text.sizes_B6 is None  # each example has its own


@pytest.mark.parametrize("trains_text", [True, False])
@pytest.mark.parametrize("preset", ["fast", "sdxl-10gb"])
def test_the_autoencoder_stays_in_float32(miniature_xl: StableDiffusionXL, preset: MemoryPreset, trains_text: bool) -> None:
    """That of Stable Diffusion XL overflows in float16, so it is never converted, whatever the precision of the rest."""
    components = random_model(miniature_xl, seed=0).build(dtype=torch.float32)
    plan = PRESETS[preset]
    policy = choose_precision(plan.precision, CPU)
    trainee = TraineeSettings(train_text_encoder=trains_text)
    placed = place_for_training(components, TrainingSetup(trainee, OptimizerSettings(), LoopSettings(), plan, policy), CPU)
    parts: dict[str, Any] = placed.components.parts
    assert {parameter.dtype for parameter in parts["vae"].parameters()} == {torch.float32}
    assert next(parts["unet"].parameters()).dtype == (torch.bfloat16 if preset == "sdxl-10gb" else torch.float32)
    assert placed.learning == (("unet", "text_encoder", "text_encoder_2") if trains_text else ("unet",))


@pytest.mark.parametrize(
    ("preset", "trainee"),
    [
        ("sdxl-10gb", TraineeSettings(train_text_encoder=False)),
        ("sdxl-10gb", TraineeSettings(text_encoders="first")),
        ("24gb", TraineeSettings(trainee="lora")),
    ],
)
def test_what_is_built_for_training_was_never_in_float32_and_is_the_same(
    miniature_xl: StableDiffusionXL, preset: MemoryPreset, trainee: TraineeSettings
) -> None:
    """A UNet of Stable Diffusion XL takes 10.3 GB of main memory in float32, and half of that in bfloat16."""
    plan, base = PRESETS[preset], random_model(miniature_xl, seed=0)
    setup = TrainingSetup(trainee, OptimizerSettings(), LoopSettings(), plan, choose_precision(plan.precision, CPU))
    dtypes = dtypes_for_training(miniature_xl, setup)
    built = base.build(dtype=torch.float32, dtypes=dtypes)
    before = {name: next(module.parameters()).dtype for name, module in built.parts.items()}
    texts = miniature_xl.text_encoders if trainee.train_text_encoder else ()
    assert before == {name: torch.bfloat16 if name in ("unet", *texts) else torch.float32 for name in before}
    placed = place_for_training(base.build(dtype=torch.float32), setup, CPU).components
    for name, module in built.parts.items():
        expected = placed.parts[name].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in module.state_dict().items()), name
