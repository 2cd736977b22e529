"""Which parts of a model are trained, and what a trainee must know about their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from dreambooth.display import counted
from dreambooth.trainees.settings import LoraKind, LoraTargets, TextEncoders, TraineeSettings

__all__ = [
    "Model",
    "ModelFamily",
    "PartNames",
    "Tensors",
    "learning_parts",
    "learning_rate_of",
    "lora_layers_of",
    "trained_parts",
    "trainee_problems",
    "what_learns",
]

Tensors = Mapping[str, Tensor]
"""Tensors of one part by canonical name."""


class PartNames(Protocol):
    """The names that a family gives its parts."""

    @property
    def denoiser(self) -> str:
        """Name of the part that predicts."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the parts that read captions."""


class ModelFamily(PartNames, Protocol):
    """What a trainee must know about a family."""

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        """Canonical names of the parameters of a part that no prediction depends on."""

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers that receive low-rank matrices."""

    def words_of(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without those for its start and end."""

    def state_dicts(self, parts: Mapping[str, nn.Module]) -> Mapping[str, Tensors]:
        """The tensors of modules under their canonical names; they share memory."""


class Model(Protocol):
    """What a trainee must know about a built model."""

    @property
    def family(self) -> ModelFamily:
        """The model's family."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The model's modules by name."""


_KINDS: Mapping[LoraKind, str] = {"lora": "a LoRA", "loha": "a LoHa", "lokr": "a LoKr"}
_CHOSEN: Mapping[TextEncoders, slice] = {"all": slice(None), "first": slice(1), "second": slice(1, 2)}


def trained_parts(settings: TraineeSettings, family: PartNames) -> tuple[str, ...]:
    """Names of the parts through which gradients flow: those that learn; for a new word the denoiser and all text encoders."""
    return (family.denoiser, *family.text_encoders) if settings.learns_word else learning_parts(settings, family)


def learning_parts(settings: TraineeSettings, family: PartNames) -> tuple[str, ...]:
    """Names of the parts of which something is trained: the denoiser and the enabled text encoders; none for a word."""
    if settings.trainee == "embedding":
        return ()
    return (family.denoiser, *(family.text_encoders[_CHOSEN[settings.text_encoders]] if settings.train_text_encoder else ()))


def trainee_problems(settings: TraineeSettings, family: PartNames) -> list[str]:
    """A sentence for each setting that has no effect because the model has a single text encoder."""
    changed = settings.is_changed("text_encoders", "text_encoder_2_learning_rate")
    if not changed or len(family.text_encoders) > 1:
        return []
    return [f"{', '.join(changed)}: no effect, because the model has a single text encoder; remove"]


def what_learns(settings: TraineeSettings, parts: str) -> str:
    """What is trained of the parts, given by their titles, as messages name it."""
    word = f"a new word of {counted(settings.embedding_vectors, 'vector')}"
    if settings.trainee == "embedding":
        return word
    with_word = f" and {word}" if settings.learns_word else ""
    if not settings.keeps_base:
        return f"{parts}{with_word}"
    alpha = f", alpha {settings.effective_alpha:g}" if settings.effective_alpha != settings.rank else ""
    kind = "a DoRA" if settings.dora else _KINDS[settings.lora_kind]
    return f"{kind} of rank {settings.rank}{alpha} for {parts}{with_word}"


def learning_rate_of(part: str, settings: TraineeSettings, family: PartNames, learning_rate: float) -> float:
    """The learning rate of a part: that of the denoiser, of the first text encoder if it has its own, or of the second."""
    rate = learning_rate if settings.text_encoder_learning_rate is None else settings.text_encoder_learning_rate
    if part in family.text_encoders[1:] and settings.text_encoder_2_learning_rate is not None:
        rate = settings.text_encoder_2_learning_rate
    return learning_rate if part == family.denoiser else rate


def lora_layers_of(part: str, settings: TraineeSettings, family: ModelFamily) -> tuple[str, ...]:
    """Canonical names of the layers of a part that receive low-rank matrices: the targets, without those of no effect."""
    idle = set(family.idle_parameters(part))
    return tuple(layer for layer in family.lora_targets(part, settings.targets) if f"{layer}.weight" not in idle)
