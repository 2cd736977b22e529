"""Settings of the evaluation, of selection during training, and of the benchmark. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dreambooth.config import Settings, Text
from dreambooth.data.settings import Word
from dreambooth.reading import check_template
from dreambooth.sampling.settings import Sampler

__all__ = [
    "CLASS_IMAGES_EACH",
    "BenchmarkSettings",
    "CaptionSettings",
    "EvaluationSettings",
    "MasksSettings",
    "SelectionSettings",
]

CLASS_IMAGES_EACH = 4
"""Class images generated with another model of a run, for each image of a subject prompt."""


class EvaluationSettings(Settings):
    """Evaluated images and encoders."""

    dino: str | None = None
    """DINO encoder: a folder, a hub id or toybox; default: facebook/dino-vits16, or toybox for a model trained from it."""

    clip: str | None = None
    """CLIP encoder (CLIP-I, CLIP-T); default: openai/clip-vit-base-patch32, or toybox for a model trained from it."""

    lpips: Path | None = None
    """Folder with alexnet-owt-7be5be79.pth and alex.pth, to measure DIV with LPIPS; default: DIV uses toybox or DINO."""

    prompts: Path | None = None
    """Text file with one prompt per line, with {token} and optionally {class_word}; default: eight built-in prompts."""

    num_images: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    """Images per subject prompt; image k starts from the same noise for every model."""

    num_class_images: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Images of the class without the subject."""

    num_checkpoint_images: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Images per prompt (and 4 times as many of the class) for each other model of the run; 0 skips those models."""

    strengths: tuple[Annotated[float, Field(gt=0, le=2)], ...] = ()
    """Strengths of the training to score as well, from few images, such as 0.4 0.6 0.8 1.2; the best one is named. Strength 0
    would be the base model, which is always scored."""

    sampler: Sampler = "ddim"
    """Sampling method."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image."""

    guidance_scale: Annotated[float, Field(ge=0)] | None = None
    """Guidance scale; default: 7.5, or 3 for toybox and models trained from it."""

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Images generated at once; affects them by rounding at most."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Random seed of the images and the confidence intervals."""

    @model_validator(mode="after")
    def _other_models_have_no_more(self) -> EvaluationSettings:
        if self.num_checkpoint_images > self.num_images:
            raise ValueError(
                f"num_checkpoint_images is {self.num_checkpoint_images} and num_images is {self.num_images}: the run's "
                "other models are compared with the final one on the same images; lower the first or raise the second"
            )
        return self


class SelectionSettings(Settings):
    """Evaluation during training, and selection of the final model."""

    off_switches = {
        "evaluate_every": (
            *("select", "evaluation_images", "evaluation_sampling_steps", "dino", "clip"),
            *("balance_fidelity", "balance_prompt", "balance_prior", "early_stop_margin", "early_stop_patience"),
        )
    }

    evaluate_every: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Evaluate and write the model every N steps, and evaluate the base model once before training; 0 turns this off."""

    select: Literal["last", "best"] = "last"
    """Final model: the one of the last step, or the evaluated one with the best balance of scores."""

    evaluation_images: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    """Images for each of eight prompts, and four times as many (at most 16) of the class."""

    evaluation_sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """Denoising steps per evaluated image."""

    dino: str | None = None
    """DINO encoder: a folder, a hub id or toybox; default: facebook/dino-vits16, or toybox for a model trained from it."""

    clip: str | None = None
    """CLIP encoder (CLIP-I, CLIP-T); default: openai/clip-vit-base-patch32, or toybox for a model trained from it."""

    balance_fidelity: Annotated[float, Field(ge=0)] = 2.0
    """Weight of subject fidelity (DINO, CLIP-I) in the balance of scores."""

    balance_prompt: Annotated[float, Field(ge=0)] = 1.0
    """Weight of prompt fidelity (CLIP-T) in the balance of scores."""

    balance_prior: Annotated[float, Field(ge=0)] = 1.0
    """Weight of class preservation (PRES, drift, DIV) in the balance of scores."""

    early_stop_margin: Annotated[float, Field(ge=0)] | None = None
    """Stop training when the balance (0 to 1) stays below its peak by more than this; default: no early stopping."""

    early_stop_patience: Annotated[int, Field(ge=1, le=1_000_000_000)] = 2
    """Number of consecutive evaluations below the margin before training stops."""

    @model_validator(mode="after")
    def _nothing_is_set_that_is_off(self) -> SelectionSettings:
        # Nobody typed the 0, so the general "use only one of them" would not say what to do.
        if self.evaluate_every == 0 and (useless := self.is_changed(*self.off_switches["evaluate_every"])):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
            raise ValueError(
                f"evaluate_every is 0, so {', '.join(useless)} would have no effect; "
                f"add --evaluate-every N (for instance 100), or leave out {flags}"
            )
        return self

    @model_validator(mode="after")
    def _choices_have_effect(self) -> SelectionSettings:
        if self.balance_fidelity == self.balance_prompt == self.balance_prior == 0:
            raise ValueError(
                "balance_fidelity, balance_prompt and balance_prior are all 0, so all steps would score the same; "
                "raise one of them"
            )
        if self.early_stop_margin is None and self.is_changed("early_stop_patience"):
            raise ValueError(
                "early_stop_margin is not set, so early_stop_patience would have no effect; "
                "add --early-stop-margin 0.1 or omit it"
            )
        return self


class BenchmarkSettings(Settings):
    """Run the paper's protocol: train on every subject of a dataset, generate every prompt and evaluate."""

    dataset: str
    """Folder of the DreamBooth dataset (with prompts_and_classes.txt), or toybox for five rendered subjects."""

    model: str | None = None
    """Base model: a file, a diffusers folder or a hub id; default: the preset's model, or toybox for that dataset."""

    subjects: tuple[str, ...] = ()
    """Subjects of the dataset; default: all."""

    preset: str | None = None
    """Training settings that replace the paper's: a built-in preset or a YAML file."""

    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Optimizer updates per subject; default: 1000, or the preset's value."""

    quick: bool = False
    """With --dataset toybox: few steps and images, to check in minutes that everything works."""

    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """Evaluated images and encoders."""

    ray: str | None = None
    """Distribute subjects with Ray: a cluster's address, auto, or local for this machine; default: local with several GPUs."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU (all GPUs with Ray), or the CPU if there is none."""

    output: Path = Path("runs/benchmark")
    """Folder for runs, images, scores and the table, shared by all machines; finished work in it is reused."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> BenchmarkSettings:
        if self.quick and self.dataset != "toybox":
            raise ValueError("quick requires --dataset toybox; for another dataset use fewer --subjects and --steps")
        if self.ray is not None and self.device is not None and ":" in self.device:
            raise ValueError(f"ray chooses each worker's GPU, so device {self.device} would have no effect; omit it")
        useless = self.evaluation.is_changed("prompts", "num_checkpoint_images")
        if useless:
            raise ValueError(
                f"the dataset has its own prompts and one model each, so {', '.join(useless)} would have no effect"
            )
        return self


class MasksSettings(Settings):
    """Make masks of the subject with a segmentation model, and a sheet to check them."""

    photos: Path
    """Folder of photos of the subject; the mask of a photo NAME is written beside it as NAME-mask.png."""

    class_word: Annotated[Word, Field(min_length=1)]
    """What to find in the photos, in words: dog, red mug."""

    segmenter: str = "CIDAS/clipseg-rd64-refined"
    """CLIPSeg model: a hub id, which is downloaded once, or a folder in the transformers layout."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Probability from which on a pixel belongs to the mask; higher values give smaller masks."""

    again: bool = False
    """Replace masks that this command made before; masks made or edited by hand are always kept."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""

    output: Path = Path("mask-check")
    """Folder for the sheet, which shows every photo with its mask."""


class CaptionSettings(Settings):
    """Write a caption for each photo with a vision model: the subject's name, then place, action and light."""

    photos: Path
    """Folder of photos of the subject; the caption of a photo NAME is written beside it as NAME.txt, unless it has one."""

    class_word: Annotated[Word, Field(min_length=1)]
    """What kind of thing the subject is: dog, man, container."""

    questions: Annotated[tuple[Text, ...], Field(min_length=1)] = (
        "where is the {class_word}?",
        "what is the {class_word} doing?",
        "what is the light like?",
    )
    """Questions to ask about each photo; the answers follow the subject's name in the caption."""

    captioner: str = "Salesforce/blip-vqa-base"
    """BLIP model that answers questions: a hub id, which is downloaded once, or a folder in the transformers layout."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""

    @field_validator("questions")
    @classmethod
    def _questions(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_template(question, frozenset({"class_word"})) for question in questions)
