"""Settings of the trained parts. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["TextEncoders", "TraineeSettings"]

TextEncoders = Literal["all", "first", "second"]


class TraineeSettings(Settings):
    """Trained parts of the model."""

    silences = {
        "train_text_encoder=False": (
            *("train_token_table", "text_encoder_learning_rate", "text_encoders", "text_encoder_2_learning_rate"),
        )
    }

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

    @model_validator(mode="after")
    def _options_have_effect(self) -> TraineeSettings:
        names = ("text_encoder_learning_rate", "train_token_table", "text_encoders", "text_encoder_2_learning_rate")
        for name in () if self.train_text_encoder else names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect while train_text_encoder is off; use only one of them")
        if self.text_encoders == "first" and self.text_encoder_2_learning_rate is not None:
            raise ValueError("text_encoder_2_learning_rate has no effect with text_encoders first; use only one of them")
        return self
