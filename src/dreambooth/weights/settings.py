"""Settings of the base model. Loads no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dreambooth.config import NamedModel, Settings, Text
from dreambooth.reading import shown_value
from dreambooth.trainees.settings import LoraForm, LoraTargets
from dreambooth.training.settings import StorageDtype

__all__ = [
    "BaseModelSettings",
    "EmbeddingSettings",
    "LoraConvertSettings",
    "LoraExtractSettings",
    "LoraMergeSettings",
    "LoraResizeSettings",
    "LoraSettings",
    "ModelForm",
    "PlannedModelSettings",
    "PredictionChoice",
    "PushSettings",
    "StrengthSettings",
    "TrainedFromSettings",
    "WeightsChoice",
]

_OF_A_MODEL = ("config", "weights", "vae", "prediction", "zero_terminal_snr", "lora")

WeightsChoice = Literal["auto", "ema", "raw"]
ModelForm = Literal["single-file", "diffusers"]
PredictionChoice = Literal["auto", "epsilon", "velocity"]


class BaseModelSettings(Settings):
    """Base model."""

    model: NamedModel
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    config: Path | None = None
    """The model's YAML file in the format of the original code; it must match the tensors."""

    weights: WeightsChoice = "auto"
    """UNet weights to read when a file contains both: the moving average (ema), the last weights (raw), or the average
    unless it belongs to another model (auto)."""

    vae: Path | None = None
    """VAE to use instead of the model's own: a .safetensors, .ckpt or .pt file, or a diffusers folder."""

    prediction: PredictionChoice = "auto"
    """What the model predicts: the noise (epsilon), the velocity (v-prediction), or what its files state (auto)."""

    zero_terminal_snr: bool | None = None
    """The noise schedule ends in pure noise (arXiv 2305.08891; only for velocity); default: as the model's files state."""


class TrainedFromSettings(BaseModelSettings):
    """Base model."""

    lora: tuple[Text, ...] = ()
    """LoRA files that become part of the base model, each FILE or FILE:STRENGTH, or run folders that trained one."""


class StrengthSettings(Settings):
    """How much of the training is used."""

    strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How much of the training to use: 1 all of it, 0.8 less, 0 the base model; above 1 exaggerates what was learned."""

    base: NamedModel | None = None
    """With --strength: the model that was trained from, in the same forms; default: the run's own base model."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> StrengthSettings:
        if self.strength == 1 and self.base is not None:
            raise ValueError("base would have no effect with strength 1; omit it or give another strength")
        return self


class LoraSettings(Settings):
    """LoRA files to apply."""

    lora: tuple[Text, ...] = ()
    """LoRA files to apply to the model, each FILE or FILE:STRENGTH (1 is as trained), or run folders that trained one."""


class EmbeddingSettings(Settings):
    """Learned words to read in prompts."""

    embedding: tuple[Text, ...] = ()
    """Files of textual inversion, each FILE or FILE:WORD for another word in prompts, or run folders that trained one."""


class PlannedModelSettings(TrainedFromSettings):
    """Base model."""

    model: NamedModel | None = None  # type: ignore[assignment]  # a plan may do without, and a run may not
    """Base model, in the same forms as for training; default: the published sizes of --family."""

    family: Literal["sd1", "sd2", "sdxl"] = "sd1"
    """Without --model: what to plan for, Stable Diffusion 1 (sd1), 2 for 768 pixels (sd2) or XL (sdxl) of full size."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> PlannedModelSettings:
        if self.model is not None and self.is_changed("family"):
            raise ValueError("a model is given, which shows its family, so family would have no effect; omit one of them")
        if self.model is None and (useless := self.is_changed(*_OF_A_MODEL)):
            raise ValueError(f"no model is given, so {', '.join(useless)} would have no effect; give a model or omit them")
        return self


class _RankSettings(Settings):
    """The rank of a written LoRA."""

    rank: Annotated[int, Field(ge=1)] | None = 32
    """Rank of the matrices, or auto: as many as keep a share of each layer's change (--energy)."""

    energy: Annotated[float, Field(gt=0, le=1)] = 0.95
    """With --rank auto: share of the energy (the sum of squares) of each layer's change to keep."""

    @field_validator("rank", mode="before")
    @classmethod
    def _auto(cls, rank: object) -> object:
        return None if rank == "auto" else rank

    @model_validator(mode="after")
    def _options_have_effect(self) -> _RankSettings:
        if self.rank is not None and self.is_changed("energy"):
            raise ValueError("energy has an effect only with rank auto; use --rank auto or omit it")
        return self


class LoraExtractSettings(_RankSettings):
    """Write the difference between a model and its base model as a LoRA file."""

    base: str
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    tuned: str
    """Model that was trained from it, in the same forms."""

    output: Path
    """LoRA file to write; it must not exist and must end in .safetensors."""

    targets: LoraTargets = "all"
    """Layers: attention; transformer (also the other layers of the blocks); or all (also the convolutions)."""

    form: LoraForm = "kohya"
    """Names in the file: kohya, which every program reads, or peft, as diffusers writes it."""

    dtype: StorageDtype = "float16"
    """Precision of the matrices."""


class LoraMergeSettings(Settings):
    """Merge LoRA files into one, or into a model."""

    output: Path
    """File to write, which must not exist: a LoRA (.safetensors), or with --model a model (.safetensors or .ckpt)."""

    lora: tuple[Text, ...] = ()
    """LoRA files to merge, each FILE or FILE:RATIO, or run folders that trained one."""

    model: str | None = None
    """Model to merge them into; default: none, and they become one LoRA whose rank is the sum of theirs."""

    form: LoraForm = "kohya"
    """Names in a LoRA file: kohya, which every program reads, or peft, as diffusers writes it."""

    dtype: StorageDtype = "float16"
    """Precision of the written weights."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> LoraMergeSettings:
        if not self.lora:
            raise ValueError("no file to merge was given; name them with --lora FILE or --lora FILE:RATIO")
        if self.model is None and len(self.lora) == 1 and ":" not in self.lora[0]:
            raise ValueError("one LoRA merged into nothing stays as it is; give several, a ratio, or --model MODEL")
        if self.model is not None and self.is_changed("form"):
            raise ValueError("form has no effect with --model, whose names a whole model has; use only one of them")
        return self


class LoraResizeSettings(_RankSettings):
    """Write a LoRA file with another rank."""

    source: str
    """LoRA file, or a run folder that trained one."""

    output: Path
    """LoRA file to write; it must not exist and must end in .safetensors."""

    form: LoraForm = "kohya"
    """Names in the file: kohya, which every program reads, or peft, as diffusers writes it."""

    dtype: StorageDtype = "float16"
    """Precision of the matrices."""


class LoraConvertSettings(Settings):
    """Write a LoRA file with the names of other programs."""

    source: str
    """LoRA file, or a run folder that trained one."""

    output: Path
    """LoRA file to write; it must not exist and must end in .safetensors."""

    form: LoraForm
    """Names to write: kohya, which every program reads, or peft, as diffusers writes it."""

    dtype: StorageDtype = "float16"
    """Precision of the matrices."""


class PushSettings(Settings):
    """Publish a run's model on the Hugging Face hub, with a model card."""

    run: Path
    """Run folder."""

    repo: Text
    """Repository on the hub: owner/name; created if it does not exist. Log in first: hf auth login."""

    private: bool = True
    """Create a private repository, and refuse an existing public one; --no-private publishes for everyone to see."""

    license: Annotated[Text, Field(min_length=1)] | None = None
    """License by its name on the hub, such as openrail++; default: that of the original weights of the base model's family."""

    dry_run: bool = False
    """Write what would be published to a folder, without using the network."""

    output: Path | None = None
    """With --dry-run: folder to write to, new or empty; default: push (or push-2, ...) in the run folder."""

    @field_validator("repo")
    @classmethod
    def _repo(cls, repo: str) -> str:
        if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo, re.ASCII) is None:
            raise ValueError(f"{shown_value(repo)} is not the name of a repository: expected owner/name")
        return repo

    @model_validator(mode="after")
    def _options_have_effect(self) -> PushSettings:
        if self.output is not None and not self.dry_run:
            raise ValueError("output would have no effect without dry_run; add --dry-run or omit it")
        return self
