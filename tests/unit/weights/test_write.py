from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.diffusion.schedule import ddpm_buffers, scaled_linear_schedule
from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

POSITION_IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
SCHEDULE = ddpm_buffers(scaled_linear_schedule())


def load(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state_dict: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state_dict


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, None])
def test_single_file_holds_the_originals_keys_and_formats(
    tiny: ModelWeights, tmp_path: Path, suffix: str, dtype: torch.dtype | None
) -> None:
    halved = replace(tiny, parts={**tiny.parts, "vae": {name: tensor.half() for name, tensor in tiny.parts["vae"].items()}})
    path = tmp_path / f"model{suffix}"
    write_single_file(path, halved, dtype=dtype, metadata={})
    tensors = load(path)
    for name, expected in SCHEDULE.items():
        assert tensors[name].dtype == torch.float32
        assert torch.equal(tensors[name], expected)
    assert torch.equal(tensors[POSITION_IDS], torch.arange(77).unsqueeze(0))
    formats = {
        prefix: {tensor.dtype for name, tensor in tensors.items() if name.startswith(prefix) and name != POSITION_IDS}
        for prefix in ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")
    }
    kept = {prefix: {torch.float32} for prefix in formats} | {"first_stage_model.": {torch.float16}}
    assert formats == (kept if dtype is None else {prefix: {dtype} for prefix in formats})
    assert len(tensors) == sum(map(len, tiny.parts.values())) + 12 + 1


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_golden_checkpoint_comes_back_under_its_own_keys_bit_for_bit(
    golden_checkpoint: Path, golden_state_dict: dict[str, Tensor], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"again{suffix}"
    write_single_file(path, read_model(str(golden_checkpoint), weights="raw"), dtype=None, metadata={})
    tensors = load(path)
    expected = {name: tensor for name, tensor in golden_state_dict.items() if not name.startswith("model_ema.")}
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        if name in SCHEDULE:  # computed in float64 here, in float32 steps there
            assert torch.allclose(tensors[name], tensor, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(tensors[name], tensor)


def test_a_written_ckpt_holds_each_tensor_once(tiny: ModelWeights, tmp_path: Path) -> None:
    # Tensors that are parts of a larger storage: written as they are, they would bring all of it along.
    flat = torch.cat([*(tensor.flatten() for tensor in tiny.parts["vae"].values()), torch.zeros(1_000_000)])
    pieces = flat.split([*(tensor.numel() for tensor in tiny.parts["vae"].values()), 1_000_000])
    views = {name: piece.view_as(tensor) for (name, tensor), piece in zip(tiny.parts["vae"].items(), pieces, strict=False)}
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    write_single_file(first, replace(tiny, parts={**tiny.parts, "vae": views}), dtype=None, metadata={"global_step": "500"})
    write_single_file(second, read_model(str(first)), dtype=None, metadata={"global_step": "500", "title": "x"})
    parameters = sum(tensor.numel() for part in tiny.parts.values() for tensor in part.values())
    assert first.stat().st_size < 4 * parameters + 500_000
    assert second.read_bytes() == first.read_bytes()
    saved = torch.load(second, weights_only=True)
    beside = {name: value for name, value in saved.items() if name != "state_dict"}
    lightning = {"pytorch-lightning_version": "1.5.9", "callbacks": {}, "lr_schedulers": []}
    assert beside == {"epoch": 0, "global_step": 500, **lightning}


def test_safetensors_carry_metadata(tiny: ModelWeights, tmp_path: Path) -> None:
    path = tmp_path / "dog.safetensors"
    write_single_file(path, tiny, dtype=None, metadata={"config": "steps: 800", "modelspec.title": "A dog"})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["config"] == "steps: 800"
    assert metadata["modelspec.title"] == "A dog"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
    assert metadata["modelspec.prediction_type"] == "epsilon"
    assert metadata["modelspec.resolution"] == "512x512"
    assert read_model(str(path)).metadata == metadata


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "folder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_beyond_float16_do_not_become_infinite(
    tiny: ModelWeights, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    unet = {key: tensor.to(dtype) for key, tensor in tiny.parts["unet"].items()}
    unet["conv_out.weight"] = unet["conv_out.weight"].clone()
    unet["conv_out.weight"].view(-1)[3] = -1e6
    large = replace(tiny, parts={**tiny.parts, "unet": unet})
    path = tmp_path / name
    write = write_single_file if path.suffix else write_diffusers_folder
    with pytest.raises(ModelFileError, match=r"holds the value (1e\+06|9\.994e\+05), and float16 ends at 65,504") as caught:
        write(path, large, dtype=torch.float16, metadata={})
    assert caught.value.hint is not None and "--dtype" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    write(path, large, dtype=torch.bfloat16, metadata={})
    assert read_model(str(path)).parts["unet"]["conv_out.weight"].abs().max() > 9e5


def test_plain_float8_is_written_as_it_is(tiny: ModelWeights, tmp_path: Path) -> None:
    unet = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in tiny.parts["unet"].items()}
    for name in ("model.safetensors", "model.ckpt"):
        write_single_file(tmp_path / name, replace(tiny, parts={**tiny.parts, "unet": unet}), dtype=None, metadata={})
        assert read_model(str(tmp_path / name)).report.parts[0].dtypes == {"float8_e4m3fn": len(unet)}


@pytest.mark.parametrize("name", ["model.bin", "model"])
def test_another_suffix_is_refused(tiny: ModelWeights, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=r"expected the suffix \.safetensors or \.ckpt, found") as caught:
        write_single_file(tmp_path / name, tiny, dtype=None, metadata={})
    assert caught.value.hint == f"Name it {tmp_path / 'model.safetensors'}."
    assert list(tmp_path.iterdir()) == []


def test_there_and_back_is_the_identity_in_float32(tiny: ModelWeights, tmp_path: Path) -> None:
    file, folder, again = tmp_path / "a.safetensors", tmp_path / "b", tmp_path / "c.safetensors"
    write_single_file(file, tiny, dtype=torch.float32, metadata={})
    write_diffusers_folder(folder, read_model(str(file)), dtype=torch.float32, metadata={})
    write_single_file(again, read_model(str(folder)), dtype=torch.float32, metadata={})
    assert read_model(str(folder)).digest() == tiny.digest()
    before, after = load_file(file), load_file(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_existing_folder_is_not_touched(tiny: ModelWeights, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelFileError, match="already exists"):
        write_diffusers_folder(folder, tiny, dtype=None, metadata={})
    assert list(folder.iterdir()) == []


def test_folder_is_in_the_chosen_format(tiny: ModelWeights, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "model", tiny, dtype=torch.float16, metadata={"config": "steps: 800"})
    for part in ("unet", "vae", "text_encoder"):
        (path,) = (tmp_path / "model" / part).glob("*.safetensors")
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"config": "steps: 800", "format": "pt"}


@pytest.fixture(scope="module")
def loaded_folder(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "mini"
    write_diffusers_folder(folder, read_model(str(golden_checkpoint)), dtype=None, metadata={})
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the library says to itself while it is loaded is not ours to mend
def test_diffusers_loads_the_folder_without_a_network(
    golden_checkpoint: Path, loaded_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = StableDiffusionPipeline.from_pretrained(loaded_folder, local_files_only=True)
    expected = read_model(str(golden_checkpoint)).build(dtype=torch.float32)
    for found, built in (
        (pipeline.unet, expected.denoiser),
        (pipeline.vae, expected.vae),
        (pipeline.text_encoder, expected.parts["text_encoder"]),
    ):
        tensors = built.state_dict()
        assert found.state_dict().keys() == tensors.keys()
        assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in tensors.items())
    assert pipeline.safety_checker is None
    assert pipeline.unet.config.attention_head_dim == 8
    assert pipeline.vae.config.scaling_factor == 0.18215
    assert pipeline.tokenizer("photo of a sks container").input_ids == [49406, 1125, 539, 320, 48136, 14913, 49407]
    assert torch.allclose(pipeline.scheduler.alphas_cumprod, SCHEDULE["alphas_cumprod"], atol=1e-6)


def test_scheduler_is_that_of_stable_diffusion_1(loaded_folder: Path) -> None:
    config = json.loads((loaded_folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert {key: config[key] for key in ("_class_name", "beta_schedule", "beta_start", "beta_end", "steps_offset")} == {
        "_class_name": "PNDMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    }
    assert (config["set_alpha_to_one"], config["clip_sample"], config["skip_prk_steps"]) == (False, False, True)
