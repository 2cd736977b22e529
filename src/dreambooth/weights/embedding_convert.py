"""A learned word in another of the forms that programs read; the suffix says which.

    .safetensors    emb_params, or clip_l and clip_g: stable-diffusion-webui, Forge, ComfyUI, diffusers
    .pt             string_to_param {"*": vectors}, as stable-diffusion-webui writes it
    .bin            the word's name with its vectors, as diffusers writes it

With two text encoders, .pt and .bin hold clip_l and clip_g, which the same programs read from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dreambooth.errors import ModelFileError
from dreambooth.runtime.tensor_files import CONTENT_HASH, write_tensors
from dreambooth.weights.embedding_file import WORD, EmbeddingFile, vectors_by_name
from dreambooth.weights.torch_archive import write_torch_archive

__all__ = ["WORD_SUFFIXES", "convert_embedding"]

WORD_SUFFIXES = (".safetensors", ".pt", ".bin")

_PLACEHOLDER = 265  # the token of "*", which stable-diffusion-webui's files name and no program reads


def convert_embedding(path: Path, file: EmbeddingFile, *, dtype: torch.dtype) -> None:
    """Write the vectors of a word to a file of the form that its suffix says, atomically.

    Raises ModelFileError if the suffix is another, or as the writers do.
    """
    tensors, has_one = vectors_by_name(file.vectors), len(file.vectors) == 1
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, dtype=dtype, metadata={**file.metadata, WORD: file.word, CONTENT_HASH: ""})
    elif path.suffix == ".pt" and has_one:
        step = file.metadata.get("global_step", "")
        said: dict[str, Any] = {"string_to_token": {"*": _PLACEHOLDER}, "name": file.word}
        beside = {**said, "step": int(step) if step.isdecimal() else None, "sd_checkpoint": None, "sd_checkpoint_name": None}
        write_torch_archive(path, {"*": file.vectors[0]}, beside=beside, under="string_to_param", dtype=dtype)
    elif path.suffix in WORD_SUFFIXES:
        named = {file.word: file.vectors[0]} if has_one else tensors
        write_torch_archive(path, named, beside={}, under=None, dtype=dtype)
    else:
        found = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise ModelFileError(
            f"{path}: a learned word is written as {', '.join(WORD_SUFFIXES[:-1])} or {WORD_SUFFIXES[-1]}, found {found}",
            hint=f"Name it {path.with_suffix(WORD_SUFFIXES[0])}.",
        )
