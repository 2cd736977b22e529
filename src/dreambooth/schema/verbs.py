"""The settings of each verb, put together from the rooms' own records. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.measures.settings import BenchmarkSettings, EvaluationSettings, SelectionSettings
from dreambooth.memory.settings import MemorySettings
from dreambooth.sampling.settings import SampleSettings
from dreambooth.toybox.settings import PhotosSettings, SheetSettings
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.settings import LoopSettings, OptimizerName, OptimizerSettings, OutputSettings, StorageDtype
from dreambooth.weights.settings import BaseModelSettings, WeightsChoice

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
    """Teach a base model one subject from a folder of photos."""

    base: BaseModelSettings
    """The base model."""

    subject: SubjectSettings
    """The subject to learn."""

    views: ViewSettings = Field(default_factory=ViewSettings)
    """How photos become training pictures."""

    prior: PriorSettings = Field(default_factory=PriorSettings)
    """The class images that hold the prior in place."""

    trainee: TraineeSettings = Field(default_factory=TraineeSettings)
    """Which parts are trained."""

    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    """The optimiser and its learning rate."""

    loop: LoopSettings = Field(default_factory=LoopSettings)
    """How long and how training runs."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
    """How memory is traded for time and exactness."""

    output: OutputSettings = Field(default_factory=OutputSettings)
    """The run folder and what is written into it."""

    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    """Scores while training, and the model that they choose."""

    @model_validator(mode="after")
    def _class_images_have_a_class(self) -> TrainSettings:
        subject, prior = self.subject, self.prior
        has_named_images = prior.prior_images is not None and subject.captions == "filename"
        if not subject.has_class and prior.prior_weight > 0 and not has_named_images:
            raise ValueError(
                "class_word is empty, so there is no class to make images of; type --prior-weight 0 to train without them, "
                "--prior-images FOLDER --captions filename to use images in folders that name their class, or a --class-word"
            )
        return self

    @model_validator(mode="after")
    def _class_options_have_effect(self) -> TrainSettings:
        subject, prior = self.subject, self.prior
        if prior.prior_weight == 0 and self.views.is_changed("prior_flip_probability"):
            raise ValueError("prior_weight is 0, so prior_flip_probability would have no effect; leave out one or the other")
        if subject.captions == "filename" and prior.prior_images is not None and prior.is_changed("class_prompt"):
            raise ValueError(
                "captions is filename, and prior_images have names too, so class_prompt would have no effect; "
                "leave out one or the other"
            )
        return self

    @model_validator(mode="after")
    def _memory_options_have_effect(self) -> TrainSettings:
        num_examples = self.loop.batch_size * (1 if self.prior.prior_weight == 0 else 2)
        _check_memory_choices(
            self.memory,
            optimizer=self.optimizer.optimizer,
            ema_decay=self.loop.ema_decay,
            gradient_accumulation=self.loop.gradient_accumulation,
            num_examples=num_examples,
        )
        if self.memory.stream_blocks and self.loop.compile in ("blocks", "full"):
            raise ValueError(
                f"stream_blocks lets weights come and go between the blocks, and compile is {self.loop.compile}; "
                "leave out one or the other"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits_steps(self) -> TrainSettings:
        if self.optimizer.warmup_steps >= self.loop.steps and self.optimizer.warmup_steps > 0:
            raise ValueError(
                f"warmup_steps is {self.optimizer.warmup_steps} and steps is {self.loop.steps}: "
                "the warm-up must end before the run; lower warmup_steps or raise steps"
            )
        return self


class PriorRecipeSettings(Settings):
    """Make a set of class images without training."""

    base: BaseModelSettings
    """The base model that makes them."""

    class_word: Annotated[str, Field(min_length=1)]
    """What kind of thing the images show: container, dog, man."""

    prior: PriorSettings = Field(default_factory=lambda: PriorSettings(prior_folder=Path("class-images")))
    """How the images are made and where they go."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Side of the images in pixels; the model's own size when not given."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Number from which the images follow."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""


class GenerateSettings(Settings):
    """Make pictures with a base model or with what training wrote."""

    base: BaseModelSettings
    """The model that makes the pictures."""

    sample: SampleSettings = Field(default_factory=SampleSettings)
    """The pictures to make."""


class EvaluateSettings(Settings):
    """Measure what a model learned: the subject, the prompts, and what was kept of the class."""

    model: str
    """Model to measure: a run folder, which knows the rest, or a .ckpt or .safetensors file, a diffusers folder or a hub id."""

    photos: Path | None = None
    """Folder with photos of the subject; those that the run learned from when not given."""

    class_word: str | None = None
    """What kind of thing the subject is; the run's own word when not given. It may pick one of several subjects of a run."""

    token: Annotated[str, Field(min_length=1)] | None = None
    """The word that names the subject; the run's own when not given. It may pick one of several subjects of a run."""

    base: str | None = None
    """Model to compare with, in any of these forms or toybox; the run's base model, else none, when not given."""

    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """The pictures that are measured, and what measures them."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""

    output: Path | None = None
    """Folder for the scores, the report and the pictures; 'evaluation' in the run, or beside the model, when not given."""


class ConvertSettings(Settings):
    """Rewrite a model as one file or as a diffusers folder."""

    source: str
    """Model to read: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    destination: Path
    """Where to write: a .ckpt or .safetensors file, or a new folder in the diffusers form."""

    to: Literal["single-file", "diffusers"] | None = None
    """Form to write; told by the destination's suffix when not given."""

    dtype: StorageDtype | None = None
    """Number format of the written weights; kept as it is when not given."""

    weights: WeightsChoice = "ema"
    """Which UNet weights are read when a file holds both: their average (ema) or the last ones (raw)."""

    config: Path | None = None
    """The source's own YAML in the original configuration language; it must agree with the tensors."""


class InspectSettings(Settings):
    """Say what a model file holds, and what the tokenizer makes of a word."""

    model: str | None = None
    """Model to look at: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    token: tuple[str, ...] = ()
    """Words to look up in the tokenizer; several may be given."""

    weights: WeightsChoice = "ema"
    """Which UNet weights are read when a file holds both: their average (ema) or the last ones (raw)."""

    config: Path | None = None
    """The model's own YAML in the original configuration language; it must agree with the tensors."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> InspectSettings:
        if self.model is None and not self.token:
            raise ValueError("neither a model nor a token is given; give a model file, a folder or a word: --token WORD")
        if self.model is None and (useless := self.is_changed("weights", "config")):
            raise ValueError(f"no model is given, so {', '.join(useless)} would have no effect; name a model or leave them out")
        return self


class PlanSettings(Settings):
    """Predict how much memory training needs, preset by preset, without training."""

    off_switches = {"prior_weight": ("prior_batch_size",)}  # noqa: RUF012

    base: BaseModelSettings
    """The base model."""

    trainee: TraineeSettings = Field(default_factory=TraineeSettings)
    """Which parts are trained."""

    memory: MemorySettings = Field(default_factory=MemorySettings)
    """How memory is traded for time and exactness."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Side of the training pictures in pixels; the model's own size when not given."""

    batch_size: Annotated[int, Field(ge=1)] = 1
    """Photos in one forward pass; as many class images come on top."""

    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    """Forward passes whose gradients make one step."""

    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the class images' loss; 0 trains without class images."""

    prior_batch_size: Annotated[int, Field(ge=1)] = 4
    """Class images made at once."""

    optimizer: OptimizerName = "adamw"
    """Optimiser of the run: adamw, or adafactor, which has hardly any state."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a running average of the trained weights; none is kept when not given."""

    device: str | None = None
    """Whose free memory counts: cuda, cuda:1, cpu, mps. The first GPU, else the CPU, when not given."""

    gpu_memory: Annotated[float, Field(gt=0)] | None = None
    """GiB that are free on a GPU elsewhere, to plan for instead of this machine's."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> PlanSettings:
        if self.gpu_memory is not None and self.device is not None:
            raise ValueError(
                f"gpu_memory is given for another machine's GPU, so device {self.device} would have no effect; "
                "leave out one or the other"
            )
        _check_memory_choices(
            self.memory,
            optimizer=self.optimizer,
            ema_decay=self.ema_decay,
            gradient_accumulation=self.gradient_accumulation,
            num_examples=self.batch_size * (1 if self.prior_weight == 0 else 2),
        )
        return self


def _check_memory_choices(
    memory: MemorySettings,
    *,
    optimizer: OptimizerName,
    ema_decay: float | None,
    gradient_accumulation: int,
    num_examples: int,
) -> None:
    """Raise ValueError for a choice that has no effect in such a run, or that the run contradicts."""
    if optimizer == "adafactor" and (useless := memory.is_changed("optimizer_states", "states_on_host")):
        raise ValueError(
            f"optimizer is adafactor, which has hardly any state, so {', '.join(useless)} would have no effect; "
            "leave out one or the other"
        )
    if memory.stream_blocks and ema_decay is not None:
        raise ValueError(
            "stream_blocks keeps the weights in host memory and ema_decay an average of them on the device; "
            "leave out one or the other"
        )
    if memory.step_in_backward and gradient_accumulation > 1:
        raise ValueError(
            f"step_in_backward uses a gradient up when it is made, and gradient_accumulation is {gradient_accumulation}: "
            "a sum over several passes needs it; leave out one or the other"
        )
    if memory.micro_batch_size is not None and memory.micro_batch_size >= num_examples:
        raise ValueError(
            f"micro_batch_size is {memory.micro_batch_size} and a forward pass has {num_examples} examples, so it would have "
            "no effect; give a smaller one or leave it out"
        )


class TokensSettings(Settings):
    """Propose rare words that are a single token, to name a subject with."""

    num_tokens: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many words are proposed."""


class DemoSettings(Settings):
    """Run the whole story on the model that ships: photos in, training, pictures and a report out."""

    output: Path = Path("runs/demo")
    """Run folder to make."""

    subject: str = "belted-vase"
    """Which subject of the small world is learned: a name of docs/dev/toybox.md, or a whole number."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser updates; as many as the preset toybox says when not given."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""
