"""What the JSON files of a diffusers folder say about the model, compared with the way in which it is used here.

The tensors show widths and counts, but not how they are meant: the noise schedule, the scale of the latents, the number of
attention heads, the layers of the text encoder that count, the words of the tokenizer. Whatever is stated otherwise is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dreambooth.display import counted
from dreambooth.errors import ModelFileError
from dreambooth.families.clip_tokenizer import TOKENIZER_FOLDER
from dreambooth.families.family import Family
from dreambooth.reading import parse_json, printable, read_text, reason_of

__all__ = ["configuration_problems", "read_json"]

_TOLERANCE = 1e-5
_DOWNLOAD_AGAIN = "Download the folder again."
_CLIP_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")

# Values that say nothing about the weights, or are read elsewhere.
_UNCHECKED = {
    "sample_size",
    "architectures",
    "attention_dropout",
    "model_type",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "projection_dim",
    "force_upcast",
    "prediction_type",
    # of samplers:
    "clip_sample",
    "set_alpha_to_one",
    "skip_prk_steps",
    "steps_offset",
    "rescale_betas_zero_snr",
    # of arithmetic alone:
    "upcast_attention",
    "timestep_spacing",
}
# What the libraries assume when a file is silent, as every Stable Diffusion has it; no tensor tells most of it.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        "addition_embed_type": None,
        "attention_type": "default",
        "class_embed_type": None,
        "class_embeddings_concat": False,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "cross_attention_norm": None,
        "dual_cross_attention": False,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "mid_block_only_cross_attention": None,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "num_attention_heads": None,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False,
        "resnet_time_scale_shift": "default",
        "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None,
        "time_embedding_type": "positional",
        "timestep_post_act": None,
        "transformer_layers_per_block": 1,
        "use_linear_projection": False,
    },
    "vae": {
        "latents_mean": None,
        "latents_std": None,
        "mid_block_add_attention": True,
        "shift_factor": None,
        "use_post_quant_conv": True,
        "use_quant_conv": True,
    },
    "text_encoder": {},
    "text_encoder_2": {},
}
_MEANINGS = {
    "num_hidden_layers": "the folder's own text states come from another layer (clip skip)",
    "scaling_factor": "its VAE scales latents otherwise",
    "hidden_act": "its text encoder uses another activation",
    "time_cond_proj_dim": "its UNet also takes the guidance scale, as in latent consistency models",
}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file. Raises ModelFileError when it is something else."""
    if not path.is_file():
        return {}
    try:
        value = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a JSON file: {reason_of(error)}", hint=_DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: expected a JSON object, found {type(value).__name__}", hint=_DOWNLOAD_AGAIN)
    return value


def configuration_problems(folder: Path, family: Family, parts: Collection[str]) -> list[str]:
    """A sentence for every statement of the folder that `family`, as recognized from the tensors, does not follow.

    `parts` are those that were read from the folder. What is not stated is not missed. Raises ModelFileError when a file is
    not JSON.
    """
    problems: list[str] = []
    for name, part in family.parts.items():
        if name not in parts:
            continue
        stated = read_json(folder / name / "config.json")
        if isinstance(stated.get("text_config"), dict):  # of a whole CLIP, whose text half was kept
            stated = stated["text_config"]
        problems += _differences(folder / name / "config.json", stated, {**_DEFAULTS.get(name, {}), **part.config})
    path = folder / "scheduler" / "scheduler_config.json"
    tokenizers = [name.replace("text_encoder", "tokenizer") for name in family.text_encoders]
    problems += _schedule_problems(path, read_json(path), family)
    return [*problems, *(problem for name in tokenizers for problem in _tokenizer_problems(folder / name))]


def _differences(path: Path, stated: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for key, value in expected.items():
        if key in stated and key not in _UNCHECKED and not key.startswith("_") and not _is_same(stated[key], value):
            meaning = f": {_MEANINGS[key]}" if key in _MEANINGS else ""
            yield f"{path}: {key} is {_short(stated[key])}; this model is used with {_short(value)}{meaning}"


def _is_same(stated: Any, expected: Any) -> bool:
    if isinstance(stated, list) and not isinstance(expected, list) and stated:
        return all(_is_same(value, expected) for value in stated)  # one value for each level
    if isinstance(expected, float) and isinstance(stated, int | float):
        return math.isclose(stated, expected, rel_tol=_TOLERANCE)
    return bool(stated == expected) or (not stated and expected in (None, False))


def _schedule_problems(path: Path, stated: Mapping[str, Any], family: Family) -> Iterator[str]:
    betas = stated.get("trained_betas")
    if isinstance(betas, list) and betas:
        expected_T = family.schedule.beta_T.tolist()
        is_same = len(betas) == len(expected_T) and all(map(_is_same, betas, expected_T))
        if not is_same:
            yield f"{path}: trained_betas holds {len(betas)} values of a noise schedule other than the family's"
        return
    yield from _differences(
        path, stated, {key: value for key, value in family.scheduler_config.items() if key != "trained_betas"}
    )


def _tokenizer_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    known = _vocabulary()
    kind = read_json(folder / "tokenizer_config.json").get("tokenizer_class", _CLIP_TOKENIZERS[0])
    if kind not in _CLIP_TOKENIZERS:
        yield f"{folder}: the tokenizer is a {_short(kind)}; this model is used with CLIP's"
    model = read_json(folder / "tokenizer.json").get("model")
    vocabulary = read_json(folder / "vocab.json") or (model.get("vocab") if isinstance(model, dict) else None)
    if vocabulary and vocabulary != known:
        yield f"{folder}: the vocabulary has {len(vocabulary)} words and is not that of CLIP's tokenizer ({len(known)} words)"
    if added := {word: index for word, index in _added_words(folder).items() if known.get(word) != index}:
        some = ", ".join(f"{_short(word)} ({index})" for word, index in list(added.items())[:5])
        yield f"{folder}: the tokenizer has {counted(len(added), 'added word')} that CLIP's tokenizer does not know: {some}"


def _added_words(folder: Path) -> dict[str, Any]:
    """Words and their ids, from the three files in which libraries keep them."""
    added: dict[str, Any] = dict(read_json(folder / "added_tokens.json"))
    decoder = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for index, entry in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and str(index).isdecimal():
            added[str(entry.get("content"))] = int(index)
    listed = read_json(folder / "tokenizer.json").get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            added[str(entry.get("content"))] = entry.get("id")
    return added


@cache
def _vocabulary() -> dict[str, int]:
    words: dict[str, int] = json.loads((TOKENIZER_FOLDER / "vocab.json").read_text(encoding="utf-8"))
    return words


def _short(value: Any) -> str:
    text = printable(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."
