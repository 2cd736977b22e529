"""Settings of the trained parts. Loads no torch."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dreambooth.config import Settings, Text

__all__ = ["LoraForm", "LoraKind", "LoraTargets", "TextEncoders", "TraineeName", "TraineeSettings"]

TextEncoders = Literal["all", "first", "second"]
TraineeName = Literal["full", "lora", "embedding"]
LoraTargets = Literal["attention", "transformer", "all"]
"""Layers that receive low-rank matrices: the four projections of each attention; also every other matrix of its block; or also
the convolutions and time projections of the residual blocks and the samplers between the levels."""

LoraForm = Literal["kohya", "peft"]
"""The names in a LoRA file: those of kohya's programs, or those of diffusers and PEFT."""

LoraKind = Literal["lora", "loha", "lokr"]
"""How the difference of a weight is built: of two matrices, of the elementwise product of two such pairs, or of a Kronecker
product."""

_TURNS = "it turns a layer's outputs, so its file is no difference that could be merged, resized or converted; use lora or loha"
_PEFT_ALONE = "no program but PEFT reads its files; use lora, loha or lokr"
_TAKES_APART = (
    "it takes a part out of the model before training, so its file fits no other copy of the model, or has twice the rank; use "
    "lora, which starts without effect"
)
_NOT_TRAINED = {
    **dict.fromkeys(("pissa", "olora", "eva"), _TAKES_APART),
    "oft": _TURNS,
    "boft": _TURNS,
    "hra": _PEFT_ALONE,
    "vera": _PEFT_ALONE,
    "dora": "it is a LoRA with trained norms; use --dora",
    "locon": "it is a LoRA that includes convolutions; use --targets all",
}

_LEARNING_RATES = {"full": 1e-6, "lora": 1e-4, "embedding": 1e-3}
_OF_A_LORA = (
    *("lora_kind", "rank", "alpha", "targets", "dora", "rank_stabilized"),
    *("lora_plus_ratio", "lora_dropout", "lora_form"),
)
_OF_A_WORD = ("embedding_vectors", "embedding_learning_rate")
_OF_TEXT_ENCODERS = (
    *("train_text_encoder", "train_token_table", "text_encoder_learning_rate"),
    *("text_encoders", "text_encoder_2_learning_rate"),
)
_MOST_VECTORS = 75  # a text encoder reads no more tokens


class TraineeSettings(Settings):
    """Trained parts of the model."""

    off_switches = {
        "trainee=full": _OF_A_LORA,
        "trainee=lora": ("train_token_table",),
        "trainee=embedding": (*_OF_A_LORA, *_OF_TEXT_ENCODERS, "embedding_learning_rate"),
    }

    silences = {
        "train_text_encoder=False": (
            *("train_token_table", "text_encoder_learning_rate", "text_encoders", "text_encoder_2_learning_rate"),
        )
    }

    trainee: TraineeName = "full"
    """What is trained: full, all weights of the trained parts; lora, small matrices beside them, written as a LoRA file; or
    embedding, only the vectors of a new word (textual inversion), written as a file of a few kilobytes."""

    lora_kind: LoraKind = "lora"
    """Kind of LoRA: lora; or loha or lokr (LyCORIS), which reach higher ranks with no more parameters."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Rank of the matrices of a LoRA: a higher rank can learn more and makes a larger file."""

    alpha: Annotated[float, Field(gt=0)] | None = None
    """The product of the matrices is scaled by alpha / rank; default: the rank. kohya's default is 1, which needs a learning
    rate as many times higher as the rank."""

    targets: LoraTargets = "transformer"
    """Layers with a LoRA: attention; transformer (also the other layers of the blocks); or all (also the convolutions)."""

    dora: bool = False
    """DoRA (arXiv 2402.09353): also train the norm of each output of the layers with a LoRA; slower."""

    rank_stabilized: bool = False
    """Scale by alpha / sqrt(rank), not alpha / rank (rsLoRA, arXiv 2312.03732), so high ranks learn as fast as low ones."""

    lora_plus_ratio: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of each pair's second matrix over that of its first (LoRA+, arXiv 2402.12354, where it is 16)."""

    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out a rank of a layer's LoRA, drawn anew for each example; reduces overfitting."""

    lora_form: LoraForm = "kohya"
    """Names in the LoRA file: kohya, which every program reads, or peft, as diffusers writes it."""

    embedding_vectors: Annotated[int, Field(ge=1, le=_MOST_VECTORS)] = 1
    """Number of vectors of the new word; more can learn more, but use up more of the 75 tokens of a prompt."""

    embedding_words: Annotated[Text, Field(min_length=1)] | None = None
    """Words whose vectors the new word starts from; default: the class word. With --trainee lora or full, this adds a new
    word, which is trained together with the LoRA or the model (pivotal tuning)."""

    embedding_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of a new word that is trained together with a LoRA or a model; default: 1e-3."""

    train_text_encoder: bool = True
    """Train the text encoder together with the UNet, as the original did."""

    train_token_table: bool = True
    """Also train the text encoder's token embeddings, as the original did; off saves their gradients and optimizer states."""

    text_encoder_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of the text encoder; default: the UNet's."""

    text_encoders: TextEncoders = "all"
    """Which text encoders train in a model with two (SDXL): all, the first (CLIP) or the second (OpenCLIP)."""

    text_encoder_2_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of the second text encoder in a model with two; default: the first one's."""

    @field_validator("lora_kind", mode="before")
    @classmethod
    def _is_trained(cls, kind: object) -> object:
        if isinstance(kind, str) and (reason := _NOT_TRAINED.get(kind.lower())) is not None:
            raise ValueError(f"{kind} is not trained here: {reason}")
        return kind

    @property
    def keeps_base(self) -> bool:
        """Whether the model's own weights stay as they are, and what is learned stands beside them."""
        return self.trainee != "full"

    @property
    def learns_word(self) -> bool:
        """Whether the token becomes a new word, whose vectors are learned: alone, or together with the rest."""
        return self.trainee == "embedding" or self.embedding_words is not None

    @property
    def word_rate(self) -> float:
        """The learning rate of a word that is learned together with something else."""
        return _LEARNING_RATES["embedding"] if self.embedding_learning_rate is None else self.embedding_learning_rate

    @property
    def effective_alpha(self) -> float:
        """The alpha that is written: the scale times the rank, whatever the scale is counted in."""
        alpha = float(self.rank) if self.alpha is None else self.alpha
        return alpha * math.sqrt(self.rank) if self.rank_stabilized else alpha

    @property
    def usual_learning_rate(self) -> float:
        """The learning rate if none is given."""
        return _LEARNING_RATES[self.trainee]

    @model_validator(mode="after")
    def _options_have_effect(self) -> TraineeSettings:
        names = ("text_encoder_learning_rate", "train_token_table", "text_encoders", "text_encoder_2_learning_rate")
        for name in () if self.train_text_encoder else names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect while train_text_encoder is off; use only one of them")
        if self.lora_kind != "lora" and (useless := self.is_changed("dora", "lora_plus_ratio", "lora_dropout", "lora_form")):
            raise ValueError(
                f"{', '.join(useless)}: only for lora_kind lora, since {self.lora_kind} has no pair of two matrices; "
                "use only one of them"
            )
        if not self.learns_word and (useless := self.is_changed(*_OF_A_WORD)):
            raise ValueError(
                f"trainee is {self.trainee}, so {', '.join(useless)} would have no effect without embedding_words; to train "
                "a new word as well, give --embedding-words and the words that it starts from"
            )
        if self.text_encoders == "first" and self.text_encoder_2_learning_rate is not None:
            raise ValueError("text_encoder_2_learning_rate has no effect with text_encoders first; use only one of them")
        return self
