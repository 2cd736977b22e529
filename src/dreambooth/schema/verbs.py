"""The settings of each verb, composed of the records of each package. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, model_validator

from dreambooth.config import NamedModel, Settings, Text
from dreambooth.data.settings import Crop, PriorSettings, SubjectSettings, ViewSettings, Word
from dreambooth.measures.settings import BenchmarkSettings, EvaluationSettings, SelectionSettings
from dreambooth.memory.settings import MemorySettings
from dreambooth.pictures.settings import PriorRecipeSettings
from dreambooth.reading import SeveralProblemsError
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.small_files import check_small_files
from dreambooth.toybox.settings import PhotosSettings, SheetSettings
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.settings import LoopSettings, OptimizerSettings, OutputSettings, StorageDtype
from dreambooth.weights.settings import (
    BaseModelSettings,
    EmbeddingSettings,
    LoraSettings,
    ModelForm,
    PlannedModelSettings,
    PredictionChoice,
    StrengthSettings,
    TrainedFromSettings,
    WeightsChoice,
)

__all__ = [
    "BenchmarkSettings",
    "ConvertSettings",
    "DemoSettings",
    "EvaluateSettings",
    "GenerateSettings",
    "InspectSettings",
    "PhotosSettings",
    "PlanSettings",
    "PriorRecipeSettings",
    "SheetSettings",
    "TokensSettings",
    "TrainSettings",
]


class TrainSettings(Settings):
    """Train a base model on one subject or several, from photos."""

    silences = {  # noqa: RUF012
        "prior.prior_weight": ("views.prior_flip_probability",),
        "trainee.trainee=lora": ("prior.keep_predictions", "memory.shard", "output.file_layout"),
        "trainee.trainee=embedding": ("memory.shard", "output.file_layout"),
        "optimizer.optimizer=adafactor": ("memory.optimizer_states", "memory.states_on_host"),
    }

    base: TrainedFromSettings
    """Base model."""

    subject: SubjectSettings
    """Subject to learn."""

    views: ViewSettings = Field(default_factory=ViewSettings)
    """How photos become training images."""

    prior: PriorSettings = Field(default_factory=PriorSettings)
    """Class images for prior preservation."""

    trainee: TraineeSettings = Field(default_factory=TraineeSettings)
    """Trained parts of the model."""

    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    """Optimizer and learning rate."""

    loop: LoopSettings = Field(default_factory=LoopSettings)
    """Training loop."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
    """Memory, speed and precision."""

    output: OutputSettings = Field(default_factory=OutputSettings)
    """Run folder and its contents."""

    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    """Evaluation during training, and selection of the final model."""

    @model_validator(mode="after")
    def _class_images_have_a_class(self) -> TrainSettings:
        subject, prior = self.subject, self.prior
        has_named_images = prior.prior_images is not None and subject.captions == "filename"
        if not subject.has_class and prior.prior_weight > 0 and not has_named_images:
            raise ValueError(
                "class_word is empty, so no class images can be generated; use --prior-weight 0 to train without them, "
                "--prior-images FOLDER --captions filename for folders of images named after their class, or a --class-word"
            )
        return self

    @model_validator(mode="after")
    def _several_subjects_have_their_own(self) -> TrainSettings:
        if not self.subject.subjects:
            return self
        problems = []
        if self.prior.prior_images is not None:
            problems.append("with subjects, prior_images belongs to a subject: write it into the list, or use --also-prior")
        if self.prior.original_pairing:
            problems.append("original_pairing draws all photos alike, but subjects have shares; use only one of them")
        if self.prior.prior_weight == 0 and any(one.prior_images is not None for one in self.subject.subjects):
            problems.append("prior_weight is 0, so prior_images of subjects would have no effect; use only one of them")
        if problems:
            raise SeveralProblemsError(problems)
        return self

    @model_validator(mode="after")
    def _class_prompt_has_effect(self) -> TrainSettings:
        subject, prior = self.subject, self.prior
        if subject.captions == "filename" and prior.prior_images is not None and prior.is_changed("class_prompt"):
            raise ValueError(
                "captions is filename, which also names prior_images, so class_prompt would have no effect; "
                "use only one of them"
            )
        return self

    @model_validator(mode="after")
    def _a_word_is_said(self) -> TrainSettings:
        if self.trainee.learns_word and self.subject.allow_silent_token:
            is_alone = self.trainee.trainee == "embedding"
            why = "trainee embedding learns nothing but the token" if is_alone else "embedding_words makes the token a new word"
            raise ValueError(f"allow_silent_token is on, but {why}; use only one of them")
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> TrainSettings:
        _check_training_sections(self)
        return self


class GenerateSettings(Settings):
    """Generate images with a base model or a trained one."""

    base: BaseModelSettings
    """Model to generate with."""

    blend: StrengthSettings = Field(default_factory=StrengthSettings)
    """How much of the training is used."""

    loras: LoraSettings = Field(default_factory=LoraSettings)
    """LoRA files to apply."""

    embeddings: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    """Learned words to read in prompts."""

    sample: SampleSettings = Field(default_factory=SampleSettings)
    """Images to generate."""


class EvaluateSettings(Settings):
    """Evaluate a trained model: subject fidelity, prompt fidelity and preservation of the class."""

    model: NamedModel
    """Model to evaluate: a run folder (which sets the rest), a .ckpt or .safetensors file, a diffusers folder or a hub id."""

    photos: Path | None = None
    """Folder of photos of the subject; default: the run's training photos."""

    class_word: Word | None = None
    """What kind of thing the subject is; default: the run's class word. Selects a subject if the run has several."""

    token: Annotated[Word, Field(min_length=1)] | None = None
    """Word that names the subject; default: the run's token. Selects a subject if the run has several."""

    base: NamedModel | None = None
    """Model to compare with, in any of these forms or toybox; default: the run's base model, or none without a run."""

    loras: LoraSettings = Field(default_factory=LoraSettings)
    """LoRA files to apply."""

    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """Evaluated images and encoders."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""

    output: Path | None = None
    """Folder for scores, report and images; default: 'evaluation' in the run folder or next to the model."""


class ConvertSettings(Settings):
    """Convert a model to a single file or a diffusers folder."""

    source: str
    """Model to read: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    destination: Path
    """Where to write: a .ckpt or .safetensors file, or a new diffusers folder."""

    to: ModelForm | None = None
    """Format to write; default: chosen by the destination's suffix."""

    dtype: StorageDtype | None = None
    """Precision of the written weights; default: unchanged."""

    blend: StrengthSettings = Field(default_factory=StrengthSettings)
    """How much of the training is used."""

    weights: WeightsChoice = "auto"
    """UNet weights to read when a file contains both: the moving average (ema), the last weights (raw), or the average
    unless it belongs to another model (auto)."""

    vae: Path | None = None
    """VAE to use instead of the model's own: a .safetensors, .ckpt or .pt file, or a diffusers folder."""

    config: Path | None = None
    """The source model's YAML file in the format of the original code; it must match the tensors."""

    prediction: PredictionChoice = "auto"
    """What the model predicts: the noise (epsilon), the velocity (v-prediction), or what its files state (auto)."""

    zero_terminal_snr: bool | None = None
    """The noise schedule ends without signal (arXiv 2305.08891; only for velocity); default: as the model's files state."""


class InspectSettings(Settings):
    """Show what a model file contains, and how the tokenizer splits a word."""

    model: NamedModel | None = None
    """Model to inspect: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    token: tuple[Text, ...] = ()
    """Words to look up in the tokenizer; one or more."""

    weights: WeightsChoice = "auto"
    """UNet weights to read when a file contains both: the moving average (ema), the last weights (raw), or the average
    unless it belongs to another model (auto)."""

    vae: Path | None = None
    """VAE to use instead of the model's own: a .safetensors, .ckpt or .pt file, or a diffusers folder."""

    config: Path | None = None
    """The model's YAML file in the format of the original code; it must match the tensors."""

    prediction: PredictionChoice = "auto"
    """What the model predicts: the noise (epsilon), the velocity (v-prediction), or what its files state (auto)."""

    zero_terminal_snr: bool | None = None
    """The noise schedule ends without signal (arXiv 2305.08891; only for velocity); default: as the model's files state."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> InspectSettings:
        if self.model is None and not self.token:
            raise ValueError("neither a model nor a token was given; give a model file, a folder or --token WORD")
        if self.model is None and (useless := self.is_changed("weights", "config", "prediction", "zero_terminal_snr")):
            raise ValueError(f"no model was given, so {', '.join(useless)} would have no effect; name a model or omit them")
        return self


class PlanSettings(Settings):
    """Predict how much memory training needs under each memory preset."""

    replaces = {"gpu_memory": ("loop.device",)}  # noqa: RUF012
    silences = {f"views.crop={crop}": ("photos",) for crop in get_args(Crop) if crop != "bucket"}  # noqa: RUF012

    base: PlannedModelSettings = Field(default_factory=PlannedModelSettings)
    """Base model."""

    views: ViewSettings = Field(default_factory=ViewSettings)
    """How photos become training images."""

    prior: PriorSettings = Field(default_factory=PriorSettings)
    """Class images for prior preservation."""

    trainee: TraineeSettings = Field(default_factory=TraineeSettings)
    """Trained parts of the model."""

    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    """Optimizer and learning rate."""

    loop: LoopSettings = Field(default_factory=LoopSettings)
    """Training loop."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
    """Memory, speed and precision."""

    output: OutputSettings = Field(default_factory=OutputSettings)
    """Previews during training."""

    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    """Evaluation during training."""

    photos: tuple[Path, ...] = ()
    """With --crop bucket: the photos to train on, as for train; default: plan for squares, the largest buckets."""

    gpu_memory: Annotated[float, Field(gt=0)] | None = None
    """Free memory in GiB of a GPU in another machine, to plan for that GPU; default: the device of this machine."""

    @model_validator(mode="after")
    def _sections_agree(self) -> PlanSettings:
        if self.gpu_memory is not None and self.loop.device is not None:
            raise ValueError(
                f"gpu_memory is for another machine's GPU, so device {self.loop.device} would have no effect; "
                "use only one of them"
            )
        if self.photos and self.views.crop != "bucket":
            raise ValueError(
                f"crop is {self.views.crop}, so photos would have no effect: all training images are squares; "
                "use --crop bucket or omit them"
            )
        _check_training_sections(self)
        return self


def _check_training_sections(settings: TrainSettings | PlanSettings) -> None:
    """Raise ValueError for settings of a run that contradict another section or have no effect because of it."""
    if settings.prior.prior_weight == 0 and settings.views.is_changed("prior_flip_probability"):
        raise ValueError("prior_weight is 0, so prior_flip_probability would have no effect; use only one of them")
    _check_memory(settings)
    check_small_files(settings.trainee, output=settings.output, memory=settings.memory, prior=settings.prior)
    optimizer, steps = settings.optimizer, settings.loop.steps
    if optimizer.warmup_steps >= steps and optimizer.warmup_steps > 0:
        raise ValueError(
            f"warmup_steps is {optimizer.warmup_steps} and steps is {steps}: "
            "warmup must end before the run does; lower warmup_steps or raise steps"
        )


_ONE_PASS = ("shard", "step_in_backward")
"""Settings that need the same forward passes in every step and process."""


def _check_memory(settings: TrainSettings | PlanSettings) -> None:
    memory, loop = settings.memory, settings.loop
    num_examples = loop.batch_size * (1 if settings.prior.prior_weight == 0 else 2)
    if settings.optimizer.optimizer == "adafactor" and (useless := memory.is_changed("optimizer_states", "states_on_host")):
        raise ValueError(
            f"optimizer is adafactor, which has almost no state, so {', '.join(useless)} would have no effect; "
            "use only one of them"
        )
    if memory.stream_blocks and loop.ema_decay is not None:
        raise ValueError(
            "stream_blocks keeps the weights in host memory, but ema_decay keeps their average on the device; "
            "use only one of them"
        )
    if settings.views.crop == "bucket" and (levers := [name for name in _ONE_PASS if getattr(memory, name)]):
        raise ValueError(
            f"crop is bucket, so a step has a forward pass for each size, which does not work with {' and '.join(levers)}; "
            "use only one of them"
        )
    if memory.step_in_backward and loop.gradient_accumulation > 1:
        raise ValueError(
            f"step_in_backward frees each gradient at once, but gradient_accumulation is {loop.gradient_accumulation} "
            "and sums gradients over several passes; use only one of them"
        )
    if memory.micro_batch_size is not None and memory.micro_batch_size >= num_examples:
        raise ValueError(
            f"micro_batch_size is {memory.micro_batch_size} and a forward pass has {num_examples} examples, so it would have "
            "no effect; give a smaller one or omit it"
        )
    if memory.stream_blocks and loop.compile in ("blocks", "full"):
        raise ValueError(
            f"stream_blocks moves weights during the forward pass, which does not work with compile={loop.compile}; "
            "use only one of them"
        )


class TokensSettings(Settings):
    """Suggest rare single-token words to name a subject with."""

    num_tokens: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of words to suggest."""


class DemoSettings(Settings):
    """Try the whole workflow on the bundled model (toybox): photos, training, images and a report."""

    output: Path = Path("runs/demo")
    """Run folder to create."""

    subject: str = "belted-vase"
    """Toybox subject to learn: a name from docs/dev/toybox.md, or an integer seed that draws one at random."""

    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Number of optimizer updates; default: the toybox preset's."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""
