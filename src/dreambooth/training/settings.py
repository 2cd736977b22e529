"""Settings of the optimizer, the training loop and the output. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dreambooth.config import Settings, Text

__all__ = ["Compilation", "FileLayout", "LoopSettings", "OptimizerName", "OptimizerSettings", "OutputSettings", "StorageDtype"]

StorageDtype = Literal["float32", "float16", "bfloat16"]

FileLayout = Literal["own", "xavierxiao", "joepenna"]
"""Naming scheme of model files: ours, or that of one of the two original programs."""


OptimizerName = Literal["adamw", "adafactor"]

Compilation = Literal["auto", "off", "blocks", "full"]


class OptimizerSettings(Settings):
    """Optimizer and learning rate."""

    off_switches = {"optimizer=adafactor": ("adam_beta1", "adam_beta2", "adam_epsilon")}

    optimizer: OptimizerName = "adamw"
    """Optimizer: adamw, or adafactor, which has almost no state and scales updates relative to each tensor."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of the UNet, and of the text encoder unless --text-encoder-learning-rate is set; default: 1e-6, 1e-4 for a
    LoRA, and 1e-3 for a new word (--trainee embedding)."""

    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warmup: constant, or linear or cosine decay to zero at the last step."""

    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Steps of linear warmup from zero."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay rate of the first moment."""

    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay rate of the second moment."""

    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Small constant that prevents division by zero."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay of all trained parameters."""

    max_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    """Clip gradients to this global norm; default: no clipping, as in the original."""

    @property
    def rate(self) -> float:
        """The learning rate, which preflight filled in if none was given."""
        assert self.learning_rate is not None
        return self.learning_rate


class LoopSettings(Settings):
    """Training loop."""

    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] = 800
    """Number of optimizer updates."""

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Photos per forward pass, plus the same number of class images."""

    gradient_accumulation: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Forward passes whose gradients are accumulated in one step."""

    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    """Weight each example by min(SNR, gamma)/SNR, or by min(SNR, gamma)/(SNR + 1) if the model predicts the velocity
    (arXiv 2303.09556; usually 5); default: all timesteps have the same weight."""

    noise_offset: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Add a random number times this to the noise of each channel (usually 0.05 to 0.1), for darker and brighter images."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then written as the model; default: no EMA."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Random seed of the run; the same seed gives the same run."""

    compile: Compilation = "auto"
    """Compile repeated blocks or full models with torch.compile: slow first steps, faster later ones."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""

    max_train_hours: Annotated[float, Field(gt=0)] | None = None
    """Save and stop after this many hours of training; the run can be resumed."""

    @property
    def examples_per_step(self) -> int:
        """Number of photos per step."""
        return self.batch_size * self.gradient_accumulation


class OutputSettings(Settings):
    """Run folder and its contents."""

    off_switches = {
        "preview_steps": ("preview_prompts", "preview_guidance_scale"),
        "image_log_steps": ("image_log_pictures",),
    }

    output: Path = Path("runs/dreambooth")
    """Run folder to create; it must not contain another run."""

    file_layout: FileLayout = "own"
    """Naming of model files: own, or a .ckpt where guides to one of the two original programs expect it."""

    checkpoint_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] = 500
    """Write a checkpoint for resuming every N steps and at the end."""

    model_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Write a model for use every N steps and at the end; 0 only at the end; default: with each checkpoint."""

    keep_checkpoints: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Keep only the newest N checkpoints; models are always kept; default: keep all."""

    model_dtype: StorageDtype = "float16"
    """Precision of written models."""

    preview_prompts: tuple[Text, ...] = ("{instance_prompt}", "{class_prompt}")
    """Preview prompts; may contain {instance_prompt}, {class_prompt}, {token} and {class_word}."""

    preview_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100
    """Generate previews before training and every N steps; 0 turns previews off."""

    preview_guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """Guidance scale of previews; 1 turns guidance off."""

    image_log_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Every N steps, log the step's photos, their VAE reconstructions and 200-step samples of their captions; 0 never."""

    image_log_pictures: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Maximum number of photos in the image log."""

    validation_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 50
    """Measure the validation loss (fixed noise, held-out views) every N steps; 0 never."""

    tensorboard: bool = False
    """Also write metrics for TensorBoard into the run folder."""

    wandb: Annotated[Text, Field(min_length=1)] | None = None
    """Also log metrics and settings to this Weights & Biases project; needs the package wandb and a login."""

    @property
    def steps_between_models(self) -> int:
        """Steps between written models; 0 if only the last step has one."""
        return self.checkpoint_steps if self.model_steps is None else self.model_steps
