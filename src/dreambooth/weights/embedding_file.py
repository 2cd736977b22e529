"""Files of textual inversion: the vectors of one learned word, in every form that other programs write.

    .safetensors of Stable Diffusion 1 and 2    emb_params (N, W)
    .safetensors of Stable Diffusion XL         clip_l (N, W) and clip_g (N, W)
    learned_embeds of diffusers                 one tensor (W) or (N, W) whose name is the word
    .pt of stable-diffusion-webui               string_to_param {"*": (N, W)}, with the word's name beside it

The word is not in most of them: there, programs take the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.runtime.tensor_files import CONTENT_HASH, write_tensors
from dreambooth.weights.containers import TensorFile, open_tensor_file
from dreambooth.weights.write import model_specification

__all__ = [
    "TOKEN_TABLE",
    "WORD",
    "EmbeddingFile",
    "Vectors",
    "is_embedding_file",
    "num_vector_parameters",
    "read_bundled_words",
    "read_embedding_file",
    "vectors_by_name",
    "write_embedding_file",
]

WORD = "dreambooth.word"
"""Metadata key of the word, for files that have another name."""

Vectors = Mapping[str, Tensor]
"""The vectors (N, W) of a word for each text encoder, by the name of the part."""

_BY_WIDTHS = {(768,): "Stable Diffusion 1", (1024,): "Stable Diffusion 2", (768, 1280): "Stable Diffusion XL"}
TOKEN_TABLE = "embeddings.token_embedding.weight"
"""Canonical name of a text encoder's table, (vocabulary, W)."""

_ONE, _TWO = "emb_params", ("clip_l", "clip_g")
_TABLES = ("string_to_param",)
_BUNDLED = "bundle_emb."
_WEBUI = "*"
_SUFFIXES = (".safetensors", ".pt", ".bin")
_MOST_VECTORS = 75  # a text encoder reads no more tokens
_NAMES_OF_ALL = ("learned_embeds", "model", "pytorch_model")
_NAMED = 5
_WHERE = "Give a file of textual inversion (.safetensors, .pt or .bin), or the run folder that wrote one."


@dataclass(frozen=True)
class EmbeddingFile:
    """The vectors of a word, before it is known which model they are for."""

    path: Path
    vectors: tuple[Tensor, ...]
    """(N, W) in float32 for each text encoder, in the family's order."""
    word: str
    """The word that the file names, or its own name."""
    metadata: Mapping[str, str]

    @property
    def num_vectors(self) -> int:
        """How many tokens the word takes in a prompt."""
        return len(self.vectors[0])

    @property
    def made_for(self) -> str | None:
        """Title of the family that the file is for, by the sizes of its vectors; None for other sizes."""
        return _BY_WIDTHS.get(tuple(vectors_NW.shape[1] for vectors_NW in self.vectors))


def is_embedding_file(path: Path) -> bool:
    """Whether a path is a file of textual inversion; reads only its header."""
    if path.suffix not in _SUFFIXES or not path.is_file():
        return False
    try:
        return _tensors(open_tensor_file(path, also_in=_TABLES)) is not None
    except ModelFileError:  # whoever reads it as a model says what is wrong
        return False


def num_vector_parameters(family: Family, num_vectors: int) -> int:
    """Numbers in the vectors of a word."""
    return num_vectors * sum(family.parts[part].blueprint[TOKEN_TABLE][1] for part in family.text_encoders)


def read_embedding_file(path: Path) -> EmbeddingFile:
    """Read the vectors of a word.

    Raises ModelFileError when the file holds something else, or vectors that are not finite.
    """
    opened = open_tensor_file(path, also_in=_TABLES)
    tensors = _tensors(opened)
    if tensors is None:
        names = ", ".join(list(opened.tensors)[:_NAMED])
        raise ModelFileError(f"{path}: holds no vectors of a learned word; it holds {names}", hint=_WHERE)
    return EmbeddingFile(path, _checked(path, tensors), next(_words(opened)), opened.metadata)


def read_bundled_words(path: Path, words: Sequence[str]) -> list[EmbeddingFile]:
    """The named words that a LoRA file holds beside its layers, as `bundle_emb.WORD.` and what the word's own file would hold.

    Raises ModelFileError for one whose tensors are no vectors.
    """
    opened, found = open_tensor_file(path), list[EmbeddingFile]()
    for word in words:
        prefix = f"{_BUNDLED}{word}."
        named = {
            name.removeprefix(prefix).removeprefix(f"{_TABLES[0]}."): tensor
            for name, tensor in opened.tensors.items()
            if name.startswith(prefix)
        }
        tensors = _tensors(replace(opened, tensors=named))
        if tensors is None:
            raise ModelFileError(f"{path}: its word '{word}' has no vectors but {', '.join(list(named)[:_NAMED])}", hint=_WHERE)
        found.append(EmbeddingFile(path, _checked(path, tensors), word, opened.metadata))
    return found


def write_embedding_file(
    path: Path, family: Family, vectors: Vectors, *, dtype: torch.dtype, metadata: Mapping[str, str]
) -> None:
    """Write the vectors of a word to a .safetensors file, atomically, with `metadata` beside what tells others the kind.

    Raises ModelFileError if the suffix is another, or as `write_tensors` does.
    """
    if path.suffix != ".safetensors":
        hint = f"Name it {path.with_suffix('.safetensors')}."
        raise ModelFileError(f"{path}: vectors are written as .safetensors, found '{path.suffix}'", hint=hint)
    tensors = vectors_by_name([vectors[part] for part in family.text_encoders])
    said = {
        **model_specification(family, path.stem),
        "modelspec.architecture": f"{family.architecture}/textual-inversion",
        **metadata,
        CONTENT_HASH: "",
    }
    write_tensors(path, tensors, dtype=dtype, metadata=said)


def vectors_by_name(vectors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The vectors for each text encoder under the names that they have in .safetensors files."""
    return dict(zip((_ONE,) if len(vectors) == 1 else _TWO, vectors, strict=True))


def _checked(path: Path, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors as vectors (N, W) in float32. Raises ModelFileError when they are not finite."""
    vectors = tuple(tensor.float().reshape(-1, tensor.shape[-1]).clone() for tensor in tensors)
    if not all(bool(one.isfinite().all()) for one in vectors):
        raise ModelFileError(f"{path}: holds vectors that are not finite", hint="Download or train it again.")
    return vectors


def _tensors(opened: TensorFile) -> list[Tensor] | None:
    """The tensors of an embedding in the order of text encoders; None for another kind of file."""
    found = opened.tensors
    if found.keys() == set(_TWO):
        tensors = [found[name] for name in _TWO]
    elif len(found) == 1:
        tensors = list(found.values())
    else:
        return None
    is_vector = all(tensor.ndim in (1, 2) and tensor.numel() and tensor.is_floating_point() for tensor in tensors)
    numbers = {tensor.shape[0] if tensor.ndim == 2 else 1 for tensor in tensors}
    return tensors if is_vector and len(numbers) == 1 and max(numbers) <= _MOST_VECTORS else None


def _words(opened: TensorFile) -> Iterator[str]:
    """What a file says that its word is, the surest first; the last is its own name, or its folder's where all are alike."""
    said = [opened.metadata.get(WORD), opened.bookkeeping.get("name") if _WEBUI in opened.tensors else None]
    name = next(iter(opened.tensors))
    if len(opened.tensors) == 1 and name not in (_ONE, *_TWO, _WEBUI):
        said.append(name)
    yield from (word.strip() for word in said if word is not None and word.strip())
    yield opened.path.parent.absolute().name if opened.path.stem in _NAMES_OF_ALL else opened.path.stem
