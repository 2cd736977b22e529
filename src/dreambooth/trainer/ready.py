"""A fully checked run as small records: nothing after preflight reads the settings of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dreambooth.config import Settings
from dreambooth.data.buckets import Buckets
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.data.size import Size
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.families.word_tokenizer import WordTokenizer
from dreambooth.files import without_paths
from dreambooth.measures.settings import SelectionSettings
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.runtime.processes import Processes
from dreambooth.trainer.assembly import TrainingSetup
from dreambooth.trainer.due import Intervals
from dreambooth.training.settings import FileLayout, LoopSettings, StorageDtype
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.subjects import LearnedSubject

__all__ = ["Learned", "Measured", "Outputs", "Previewed", "Ready"]


@dataclass(frozen=True)
class Learned:
    """What the run learns from."""

    photos: tuple[CaptionedPhoto, ...]
    given_priors: tuple[CaptionedPhoto, ...]
    """Class images from the given folders; generated ones are added to these."""
    subject: SubjectSettings
    earlier: tuple[LearnedSubject, ...]
    """Subjects that the base model knows, besides the run's own."""
    prior: PriorSettings
    views: ViewSettings
    size: Size
    """Size of the training images, or of the square if they have several."""
    buckets: Buckets
    """All sizes of the training images."""
    new_word: str | None = None
    """The token, if it becomes a word with vectors of its own."""


@dataclass(frozen=True)
class Previewed:
    """What is sampled while the run trains."""

    prompts: tuple[str, ...]
    guidance_scale: float
    num_logged_images: int
    """Number of photos of a step in the image log."""


@dataclass(frozen=True)
class Measured:
    """Scoring during training, and model selection by these scores."""

    selection: SelectionSettings
    encoders: Encoders | None
    """Only in the main process, and only if something is scored."""

    @property
    def chooses(self) -> bool:
        """Whether models are scored, so that one of them is chosen."""
        return self.selection.evaluate_every > 0


@dataclass(frozen=True)
class Outputs:
    """What the run writes."""

    layout: FileLayout
    model_dtype: StorageDtype
    keep_checkpoints: int | None
    """None keeps all of them."""
    tensorboard: bool
    wandb: str | None
    """Project at Weights & Biases."""
    settings: Settings
    """All settings with choices that depend on the machine and the model filled in; only written, never read here."""

    def dump(self) -> Mapping[str, Any]:
        """The settings as plain values, for the metadata of a model: of paths only the last name."""
        dumped: Mapping[str, Any] = without_paths(self.settings.model_dump())
        return dumped


@dataclass(frozen=True)
class Ready:
    """A run that can start."""

    run: RunFolder
    device: torch.device
    processes: Processes
    base: ModelWeights
    learned: Learned
    setup: TrainingSetup
    intervals: Intervals
    previewed: Previewed
    measured: Measured
    outputs: Outputs
    announcement: tuple[str, ...]
    """Lines shown when the run starts."""
    memory_flags: tuple[str, ...]
    """Flags with which a resumed run needs less memory for the same results."""
    disk_bytes: int
    """The run's peak disk usage."""

    @property
    def plan(self) -> MemoryPlan:
        """How memory is saved."""
        return self.setup.plan

    @property
    def policy(self) -> PrecisionPolicy:
        """The arithmetic."""
        return self.setup.policy

    @property
    def loop(self) -> LoopSettings:
        """Length and batches of training."""
        return self.setup.loop

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer, which knows the new word, if there is one."""
        plain, word = self.base.family.load_tokenizer(), self.learned.new_word
        return plain if word is None else WordTokenizer(plain, ((word, self.setup.trainee.embedding_vectors),))

    @property
    def size(self) -> Size:
        """Size of the training images."""
        return self.learned.size
