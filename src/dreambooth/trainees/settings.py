"""Which parts are trained. Loads no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["TraineeSettings"]


class TraineeSettings(Settings):
    """Which parts of the model are trained."""

    train_text_encoder: bool = True
    """Train the whole text encoder together with the UNet, as the original did."""

    train_token_table: bool = True
    """Let the text encoder's table of all words learn as well, as in the original; off saves its gradient and means."""

    text_encoder_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of the text encoder; that of the UNet when not given."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> TraineeSettings:
        if not self.train_text_encoder and self.text_encoder_learning_rate is not None:
            raise ValueError(
                "text_encoder_learning_rate has no effect while train_text_encoder is off; leave out one or the other"
            )
        if not self.train_text_encoder and not self.train_token_table:
            raise ValueError("train_token_table has no effect while train_text_encoder is off; leave out one or the other")
        return self
