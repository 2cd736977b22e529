"""How training goes: optimiser, loop and what is written while it runs. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["FileLayout", "LoopSettings", "OptimizerName", "OptimizerSettings", "OutputSettings", "StorageDtype"]

StorageDtype = Literal["float32", "float16", "bfloat16"]

FileLayout = Literal["own", "xavierxiao", "joepenna"]
"""Whose names the files of models have: ours, or those of one of the two original programs."""


OptimizerName = Literal["adamw", "adafactor"]


class OptimizerSettings(Settings):
    """The optimiser and its learning rate."""

    optimizer: OptimizerName = "adamw"
    """The optimiser: adamw, or adafactor, which has hardly any state and steps relative to the size of each tensor."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Learning rate of the UNet, and of the text encoder unless it has its own."""

    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or falling to zero at the last step along a line or a cosine."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from zero."""

    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the mean of the gradients."""

    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the mean of the squared gradients."""

    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Term that keeps the division by the second mean finite."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay on every trained parameter."""

    max_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradient; longer ones are scaled down. Not limited when not given, as in the original."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> OptimizerSettings:
        useless = self.is_changed("adam_beta1", "adam_beta2", "adam_epsilon")
        if self.optimizer == "adafactor" and useless:
            raise ValueError(
                f"optimizer is adafactor, so {', '.join(useless)} would have no effect; leave out one or the other"
            )
        return self


class LoopSettings(Settings):
    """How long and how training runs."""

    steps: Annotated[int, Field(ge=1)] = 800
    """Optimiser updates."""

    batch_size: Annotated[int, Field(ge=1)] = 1
    """Photos in one forward pass; as many class images come on top."""

    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    """Forward passes whose gradients make one step."""

    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    """Weigh each example by min(SNR, gamma)/SNR (arXiv 2303.09556; 5 is usual). Every timestep counts alike when not given."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep a running average of the trained weights and write it as the model. Off when not given."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Number from which all randomness of the run follows."""

    compile: Literal["auto", "off", "blocks", "full"] = "auto"
    """Let torch compile the layers that the model repeats, or whole models: slow first steps, faster later ones."""

    device: str | None = None
    """Where to train: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""

    max_train_hours: Annotated[float, Field(gt=0)] | None = None
    """Stop after the step that passes this time, saved and ready to resume."""

    @property
    def examples_per_step(self) -> int:
        """Photos that one step sees."""
        return self.batch_size * self.gradient_accumulation


class OutputSettings(Settings):
    """The run folder and what is written into it."""

    off_switches = {
        "preview_steps": ("preview_prompts", "preview_guidance_scale"),
        "image_log_steps": ("image_log_pictures",),
    }

    output: Path = Path("runs/dreambooth")
    """Run folder to make; it must not hold another run."""

    file_layout: FileLayout = "own"
    """Names of the models: this program's own, or a .ckpt where guides to one of the two original programs look for it."""

    checkpoint_steps: Annotated[int, Field(ge=1)] = 500
    """A checkpoint to resume from is written every so many steps, and at the end."""

    model_steps: Annotated[int, Field(ge=0)] | None = None
    """A model to use is written every so many steps and at the end: with each checkpoint when not given, 0 only at the end."""

    keep_checkpoints: Annotated[int, Field(ge=1)] | None = None
    """How many of the newest checkpoints stay; models always stay. All when not given."""

    model_dtype: StorageDtype = "float16"
    """Number format of the models written."""

    preview_prompts: tuple[str, ...] = ("{instance_prompt}", "{class_prompt}")
    """Prompts of the preview pictures; {instance_prompt}, {class_prompt}, {token} and {class_word} may stand in them."""

    preview_steps: Annotated[int, Field(ge=0)] = 100
    """Previews are made before training and every so many steps; 0 makes none."""

    preview_guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """How strongly the prompt pulls in previews; 1 is no guidance."""

    image_log_steps: Annotated[int, Field(ge=0)] = 0
    """Photos of the step, what the VAE makes of them, and 200-step samples of their captions, every so many steps; 0 never."""

    image_log_pictures: Annotated[int, Field(ge=1)] = 8
    """Photos of the step that the image log shows at most."""

    validation_steps: Annotated[int, Field(ge=0)] = 50
    """The loss on fixed noise and held-out views is measured every so many steps; 0 never."""

    tensorboard: bool = False
    """Also write the numbers for TensorBoard into the run folder."""

    @property
    def steps_between_models(self) -> int:
        """A model is written at every multiple of this many steps; 0 when only the last step has one."""
        return self.checkpoint_steps if self.model_steps is None else self.model_steps
