"""A model at a strength, with the base model that its run remembers, LoRA files applied, and learned words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreambooth.errors import SettingsError
from dreambooth.evaluation.remembered_run import read_remembered_run
from dreambooth.files import expanded
from dreambooth.weights.embedding_apply import NamedEmbedding, read_embeddings, with_embeddings
from dreambooth.weights.embedding_file import read_bundled_words
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.own_word import own_word
from dreambooth.weights.read import read_base
from dreambooth.weights.settings import BaseModelSettings, EmbeddingSettings, LoraSettings, StrengthSettings
from dreambooth.weights.strength import at_strength

__all__ = ["model_at_strength", "model_with_files", "model_with_loras"]


def model_at_strength(asked: BaseModelSettings, blend: StrengthSettings) -> ModelWeights:
    """Read a model, and unless the strength is 1 its base model as well, and return the model between the two.

    Raises SettingsError when no base model is given or remembered, and ModelFileError when a model cannot be read or the base
    model is another.
    """
    if blend.strength == 1:
        return read_base(asked)
    base = _base_of(asked, blend)
    trained = read_base(asked)
    vae = asked.vae or base.vae  # a VAE that is given belongs to both, and nothing lies between it and itself
    return at_strength(trained, read_base(base.model_copy(update={"vae": vae})), blend.strength)


def model_with_loras(asked: BaseModelSettings, blend: StrengthSettings, loras: LoraSettings) -> ModelWeights:
    """`model_at_strength` with LoRA files applied, and with the words beside them that they were trained together with.

    Raises what it does, and what `read_loras`, `with_loras` and `own_word` raise.
    """
    files = read_loras(loras.lora)
    model = with_loras(model_at_strength(asked, blend), files)
    return with_embeddings(model, _own_words(files, model))


def model_with_files(
    asked: BaseModelSettings, blend: StrengthSettings, loras: LoraSettings, embeddings: EmbeddingSettings
) -> ModelWeights:
    """`model_with_loras` with learned words: those of files, and those that the LoRA files hold beside their layers.

    Raises what it does, and what `read_embeddings` and `with_embeddings` raise.
    """
    words = read_embeddings(embeddings.embedding)
    files = read_loras(loras.lora)
    bundled = [
        NamedEmbedding(word, word.word)
        for lora in files
        if lora.strength != 0
        for word in read_bundled_words(lora.file.path, lora.file.embeddings)
    ]
    model = with_embeddings(with_loras(model_at_strength(asked, blend), files), words)
    return with_embeddings(with_embeddings(model, bundled), _own_words(files, model))


def _own_words(files: Sequence[ScaledLora], model: ModelWeights) -> list[NamedEmbedding]:
    """The words beside LoRA files; a word that the model already has stays as it is, for it was given by name."""
    own = [own_word(lora.file.path, lora.file.metadata) for lora in files if lora.strength != 0]
    return [word for word in own if word is not None and all(one.word != word.word for one in model.words)]


def _base_of(asked: BaseModelSettings, blend: StrengthSettings) -> BaseModelSettings:
    if blend.base is not None:
        return BaseModelSettings(
            model=blend.base,
            weights=asked.weights,
            vae=asked.vae,
            prediction=asked.prediction,
            zero_terminal_snr=asked.zero_terminal_snr,
        )
    path = expanded(Path(asked.model))
    for folder in (path, path.parent, path.parent.parent):  # the run, a model in it, one of its models/
        if (run := read_remembered_run(folder)) is not None:
            return run.base
    raise SettingsError(
        f"strength is {blend.strength:g}, which is counted from the base model, and {asked.model} is not in a run folder",
        hint=f"Name the model that it was trained from: --strength {blend.strength:g} --base MODEL",
    )
