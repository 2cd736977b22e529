"""A model that reads learned words: files of textual inversion, each with the word that stands for it in prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.display import counted, quoted
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.tokens import describe_token, says
from dreambooth.files import expanded
from dreambooth.weights.embedding_file import TOKEN_TABLE, EmbeddingFile, read_embedding_file
from dreambooth.weights.learned_words import LearnedWord
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["NamedEmbedding", "described_words", "read_embeddings", "silent_words", "with_embeddings"]

_RUN_MODEL = "model.safetensors"
_HOW = "Give a file of textual inversion, or with a word FILE:WORD"


@dataclass(frozen=True)
class NamedEmbedding:
    """A file and the word that stands for it in prompts."""

    file: EmbeddingFile
    word: str


def read_embeddings(texts: Sequence[str]) -> list[NamedEmbedding]:
    """The files that a user named as FILE or FILE:WORD, where FILE may also be a run folder.

    Raises one error with everything that is wrong: SettingsError if a file does not exist or two files have one word, otherwise
    ModelFileError.
    """
    found, missing, problems = list[NamedEmbedding](), list[str](), list[str]()
    for text in texts:
        path, word = _split(text)
        file = path / _RUN_MODEL if path.is_dir() else path
        if not file.exists():
            missing.append(f"embedding is {text}: no such file")
            continue
        try:
            read = read_embedding_file(file)
        except ModelFileError as error:
            problems += error.problems
            continue
        named = NamedEmbedding(read, read.word if word is None else word)
        if not describe_token(named.word).ids:
            missing.append(f"embedding is {text}: the word is empty")
        elif any(_ids(one.word) == _ids(named.word) for one in found):
            missing.append(f"embedding is {text}: another file already has the word '{named.word}'")
        found.append(named)
    if missing:
        raise SettingsError([*missing, *problems], hint=_HOW)
    if problems:
        raise ModelFileError(problems, hint=_HOW)
    return found


def with_embeddings(model: ModelWeights, embeddings: Sequence[NamedEmbedding]) -> ModelWeights:
    """The model, which then reads the words. Raises ModelFileError when a file is for another model, or its word is taken."""
    words = [_word(one, model) for one in embeddings]
    for one in embeddings:
        if any(_ids(one.word) == _ids(word.word) for word in model.words):
            hint = f"Give it another word: --embedding {quoted(f'{one.file.path}:WORD')}"
            raise ModelFileError(f"{one.file.path}: the model already has a learned word '{one.word}'", hint=hint)
    return replace(model, words=(*model.words, *words)) if words else model


def _word(embedding: NamedEmbedding, model: ModelWeights) -> LearnedWord:
    family, file = model.family, embedding.file
    widths = [family.parts[part].blueprint[TOKEN_TABLE][1] for part in family.text_encoders]
    found = [vectors_NW.shape[1] for vectors_NW in file.vectors]
    if found != widths:
        are, need = (" and ".join(map(str, numbers)) for numbers in (found, widths))
        raise ModelFileError(
            f"{file.path}: its vectors have {are} numbers, and the text encoders of this {family.title} read {need}",
            hint=f"It is for another model. What it is for: dreambooth inspect {quoted(file.path)}",
        )
    return LearnedWord(embedding.word, dict(zip(family.text_encoders, file.vectors, strict=True)))


def described_words(model: ModelWeights) -> list[str]:
    """A sentence for each learned word."""
    return [f"Learned word '{word.word}': {counted(word.num_vectors, 'vector')}" for word in model.words]


def silent_words(model: ModelWeights, prompts: Sequence[str]) -> list[str]:
    """A sentence for each learned word that no prompt says, so that its file has no effect."""
    silent = [word.word for word in model.words if not any(says(prompt, word.word) for prompt in prompts)]
    return [f"no prompt says the learned word '{word}', so its file has no effect" for word in silent]


def _ids(word: str) -> tuple[int, ...]:
    return describe_token(word).ids


def _split(text: str) -> tuple[Path, str | None]:
    """A file whose own name holds a colon is meant if it exists."""
    whole, (name, colon, word) = expanded(Path(text)), text.rpartition(":")
    if whole.exists() or not colon or not expanded(Path(name)).exists():
        return whole, None
    return expanded(Path(name)), word
