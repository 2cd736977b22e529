"""A diffusers folder whose JSON files say that the model is used otherwise is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.families.clip_tokenizer import TOKENIZER_FOLDER
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture
def folder(tiny: ModelWeights, tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    write_diffusers_folder(path, tiny, dtype=None, metadata={})
    return path


def state(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**stated, **values}), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "key", "value", "expected"),
    [
        (SCHEDULER, "beta_schedule", "linear", "scaled_linear"),
        (SCHEDULER, "beta_schedule", "squaredcos_cap_v2", "scaled_linear"),
        (SCHEDULER, "beta_start", 0.0001, "0.00085"),
        (SCHEDULER, "beta_end", 0.02, "0.012"),
        (SCHEDULER, "num_train_timesteps", 500, "1000"),
        (VAE, "scaling_factor", 0.13025, "0.18215"),
        (VAE, "shift_factor", 0.1, "null"),
        (VAE, "latents_mean", [0.1, 0.2, 0.3, 0.4], "null"),
        (VAE, "act_fn", "relu", "silu"),
        (VAE, "norm_num_groups", 16, "32"),
        (TEXT, "num_hidden_layers", 1, "2"),
        (TEXT, "hidden_act", "gelu", "quick_gelu"),
        (TEXT, "num_attention_heads", 4, "1"),
        (TEXT, "vocab_size", 49409, "100"),
        (UNET, "attention_head_dim", 16, "8"),
        (UNET, "attention_head_dim", [8, 16], "8"),
        (UNET, "time_cond_proj_dim", 256, "null"),
        (UNET, "class_embed_type", "timestep", "null"),
        (UNET, "norm_eps", 1e-6, "1e-05"),
    ],
)
def test_what_a_folder_states_otherwise_is_refused(folder: Path, file: str, key: str, value: Any, expected: str) -> None:
    state(folder, file, **{key: value})
    with pytest.raises(ModelFileError) as caught:
        read_model(str(folder))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{folder / file}: {key} is {value if isinstance(value, str) else json.dumps(value)}; ")
    assert f"this model is used with {expected}" in problem
    assert caught.value.hint is not None


def test_all_problems_are_told_together(folder: Path) -> None:
    state(folder, VAE, scaling_factor=1)
    state(folder, SCHEDULER, beta_schedule="linear", trained_betas=None)
    state(folder, "tokenizer/added_tokens.json", **{"<cat-toy>": 49408})
    with pytest.raises(ModelFileError) as caught:
        read_model(str(folder))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("file", "values"),
    [
        (UNET, {"attention_head_dim": [8, 8], "transformer_layers_per_block": [1, 1], "class_embed_type": None}),
        (UNET, {"only_cross_attention": [False, False], "mid_block_only_cross_attention": False, "upcast_attention": True}),
        (VAE, {"scaling_factor": 0.18215, "force_upcast": True, "use_quant_conv": True}),
        (TEXT, {"eos_token_id": 2, "torch_dtype": "float16", "transformers_version": "4.26"}),
        (SCHEDULER, {"_class_name": "DDIMScheduler", "clip_sample": True, "steps_offset": 0, "timestep_spacing": "trailing"}),
        (SCHEDULER, {"trained_betas": [], "rescale_betas_zero_snr": False}),
        ("tokenizer/added_tokens.json", {"<|endoftext|>": 49407, "<|startoftext|>": 49406}),
    ],
)
def test_the_same_in_other_words_is_read(tiny: ModelWeights, folder: Path, file: str, values: dict[str, Any]) -> None:
    state(folder, file, **values)
    assert read_model(str(folder)).digest() == tiny.digest()


def test_zero_terminal_snr_of_a_folder_is_refused(folder: Path) -> None:
    state(folder, SCHEDULER, rescale_betas_zero_snr=True)
    with pytest.raises(ModelFileError, match=r"trained with zero terminal SNR .*rescale_betas_zero_snr True"):
        read_model(str(folder))


def test_trained_betas_are_compared(tiny: ModelWeights, folder: Path) -> None:
    betas = tiny.family.schedule.beta_T.tolist()
    state(folder, SCHEDULER, trained_betas=betas)
    assert read_model(str(folder)).digest() == tiny.digest()
    state(folder, SCHEDULER, trained_betas=[*betas[:-1], 0.5])
    with pytest.raises(ModelFileError, match="trained_betas holds 1000 values of a noise schedule other than the family's"):
        read_model(str(folder))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("added_tokens.json", {"<cat-toy>": 49408}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"49408": {"content": "<cat-toy>"}}}),
        ("tokenizer.json", {"added_tokens": [{"id": 49408, "content": "<cat-toy>"}]}),
    ],
)
def test_added_words_are_refused(folder: Path, file: str, values: dict[str, Any]) -> None:
    state(folder, f"tokenizer/{file}", **values)
    with pytest.raises(ModelFileError, match=r"1 added word that CLIP's tokenizer does not know: <cat-toy> \(49408\)"):
        read_model(str(folder))


def test_another_tokenizer_is_refused(folder: Path) -> None:
    vocabulary = json.loads((TOKENIZER_FOLDER / "vocab.json").read_text(encoding="utf-8"))
    (folder / "tokenizer/vocab.json").write_text(json.dumps(dict(list(vocabulary.items())[:100])), encoding="utf-8")
    state(folder, "tokenizer/tokenizer_config.json", tokenizer_class="T5Tokenizer")
    with pytest.raises(ModelFileError) as caught:
        read_model(str(folder))
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "the tokenizer is a T5Tokenizer; this model is used with CLIP's",
        "the vocabulary has 100 words and is not that of CLIP's tokenizer (49408 words)",
    ]
