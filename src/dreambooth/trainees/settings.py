"""Settings of the trained parts. Loads no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["TraineeSettings"]


class TraineeSettings(Settings):
    """Trained parts of the model."""

    silences = {"train_text_encoder=False": ("train_token_table", "text_encoder_learning_rate")}

    train_text_encoder: bool = True
    """Train the text encoder together with the UNet, as the original did."""

    train_token_table: bool = True
    """Also train the text encoder's token embeddings, as the original did; off saves their gradients and optimizer states."""

    text_encoder_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of the text encoder; default: the UNet's."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> TraineeSettings:
        if not self.train_text_encoder and self.text_encoder_learning_rate is not None:
            raise ValueError("text_encoder_learning_rate has no effect while train_text_encoder is off; use only one of them")
        if not self.train_text_encoder and not self.train_token_table:
            raise ValueError("train_token_table has no effect while train_text_encoder is off; use only one of them")
        return self
