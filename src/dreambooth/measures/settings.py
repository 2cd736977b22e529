"""How models are measured: which pictures are made, which encoders look at them, and a benchmark of many. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["CLASS_IMAGES_EACH", "BenchmarkSettings", "EvaluationSettings", "SelectionSettings"]

CLASS_IMAGES_EACH = 4
"""Class images made with another model of a run, for each picture of a subject prompt."""


class EvaluationSettings(Settings):
    """The pictures that are measured, and what measures them."""

    dino: str | None = None
    """Encoder of DINO: a folder, hub id or toybox. When not given facebook/dino-vits16, toybox for pictures of 64 pixels."""

    clip: str | None = None
    """Encoder of CLIP-I and CLIP-T. When not given openai/clip-vit-base-patch32, toybox for pictures of 64 pixels."""

    lpips: Path | None = None
    """Folder with alexnet-owt-7be5be79.pth and alex.pth, to measure DIV by LPIPS; by toybox or by DINO when not given."""

    prompts: Path | None = None
    """A text file with one prompt a line, each with {token} and perhaps {class_word}; eight of our own when not given."""

    num_images: Annotated[int, Field(ge=1)] = 4
    """Pictures of each prompt with the subject; number k starts from noise k, with every model."""

    num_class_images: Annotated[int, Field(ge=1)] = 16
    """Pictures of the class alone."""

    num_checkpoint_images: Annotated[int, Field(ge=0)] = 1
    """Pictures of each prompt, and four times as many of the class, for other models of the run; 0 leaves these out."""

    sampler: Literal["ddim", "dpm++", "euler", "euler-a", "plms"] = "ddim"
    """How noise is removed."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps for a picture."""

    guidance_scale: Annotated[float, Field(ge=0)] | None = None
    """How strongly the prompt pulls; 7.5, or 3 for pictures of 64 pixels, when not given."""

    batch_size: Annotated[int, Field(ge=1)] = 4
    """Pictures made at once; a picture changes with it by rounding at most."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Number from which the pictures and the intervals follow."""

    @model_validator(mode="after")
    def _other_models_have_no_more(self) -> EvaluationSettings:
        if self.num_checkpoint_images > self.num_images:
            raise ValueError(
                f"num_checkpoint_images is {self.num_checkpoint_images} and num_images is {self.num_images}: the run's "
                "other models are compared with its final one by pictures that it has as well; lower the one or raise the other"
            )
        return self


class SelectionSettings(Settings):
    """Scores while a run trains, and the step whose model they choose."""

    off_switches = {
        "evaluate_every": (
            *("select", "evaluation_images", "evaluation_sampling_steps", "dino", "clip"),
            *("balance_fidelity", "balance_prompt", "balance_prior", "early_stop_margin", "early_stop_patience"),
        )
    }

    evaluate_every: Annotated[int, Field(ge=0)] = 0
    """The model is scored, and written, every so many steps; 0 never. Before training the base model is scored once."""

    select: Literal["last", "best"] = "last"
    """Which model is the final one: that of the last step, or the best by the balance of its scores, of those scored."""

    evaluation_images: Annotated[int, Field(ge=1)] = 4
    """Pictures of each of eight prompts that are scored, and four times as many, at most 16, of the class."""

    evaluation_sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """Denoising steps for a picture that is scored."""

    dino: str | None = None
    """Encoder of DINO: a folder, hub id or toybox. When not given facebook/dino-vits16, toybox for pictures of 64 pixels."""

    clip: str | None = None
    """Encoder of CLIP-I and CLIP-T. When not given openai/clip-vit-base-patch32, toybox for pictures of 64 pixels."""

    balance_fidelity: Annotated[float, Field(ge=0)] = 2.0
    """Weight in the balance of how much the subject looks like its photos (DINO, CLIP-I)."""

    balance_prompt: Annotated[float, Field(ge=0)] = 1.0
    """Weight in the balance of how well prompts are still followed (CLIP-T)."""

    balance_prior: Annotated[float, Field(ge=0)] = 1.0
    """Weight in the balance of how much of the class is kept (PRES, drift, DIV)."""

    early_stop_margin: Annotated[float, Field(ge=0)] | None = None
    """Training ends when the balance (0 to 1) stays lower than its peak by more than this; it never does when not given."""

    early_stop_patience: Annotated[int, Field(ge=1)] = 2
    """How many scored steps in a row must be that much lower."""

    @model_validator(mode="after")
    def _choices_have_effect(self) -> SelectionSettings:
        if self.balance_fidelity == self.balance_prompt == self.balance_prior == 0:
            raise ValueError(
                "balance_fidelity, balance_prompt and balance_prior are all 0, so every step would be as good as every other; "
                "raise one of them"
            )
        if self.early_stop_margin is None and self.is_changed("early_stop_patience"):
            raise ValueError(
                "early_stop_margin is not given, so early_stop_patience would have no effect; "
                "add --early-stop-margin 0.1 or leave it out"
            )
        return self


class BenchmarkSettings(Settings):
    """Run the paper's protocol: learn every subject of a dataset, show it in every prompt, and measure."""

    dataset: str
    """Folder of the DreamBooth dataset, with prompts_and_classes.txt; or toybox, for five subjects of the small world."""

    model: str | None = None
    """Base model: a file, a diffusers folder or a hub id; the preset's own when not given, and toybox for that dataset."""

    subjects: tuple[str, ...] = ()
    """Which subjects of the dataset; all when none is named."""

    preset: str | None = None
    """Training settings over the paper's: a shipped preset or a YAML file."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser updates for each subject; 1000, or as many as the preset says, when not given."""

    quick: bool = False
    """With dataset toybox: few steps and pictures, to see in minutes that everything works."""

    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """The pictures that are measured, and what measures them."""

    ray: str | None = None
    """Ray cluster to spread the subjects over: its address, auto, or local for this machine, as is usual for several GPUs."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, or all of them by Ray, else the CPU, when not given."""

    output: Path = Path("runs/benchmark")
    """Folder for runs, pictures, scores and the table, seen by all machines; what is done there is not done again."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> BenchmarkSettings:
        if self.quick and self.dataset != "toybox":
            raise ValueError("quick is for dataset toybox; for another one name a few --subjects and fewer --steps")
        if self.ray is not None and self.device is not None and ":" in self.device:
            raise ValueError(f"ray chooses each worker's GPU, so device {self.device} would have no effect; leave it out")
        useless = self.evaluation.is_changed("prompts", "num_checkpoint_images")
        if useless:
            raise ValueError(
                f"the dataset has its own prompts and one model each, so {', '.join(useless)} would have no effect"
            )
        return self
