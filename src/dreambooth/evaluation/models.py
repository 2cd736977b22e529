"""The models that an evaluation compares, and their images: the evaluated model, its base model and the run's other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.errors import ModelFileError
from dreambooth.evaluation.evaluator import PromptSet
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import EvaluationTarget
from dreambooth.files import expanded
from dreambooth.pictures.sample_cache import SampleCache
from dreambooth.runs.model_names import MODELS_BY_STEP
from dreambooth.sampling.records import Picture
from dreambooth.sampling.settings import SampleSettings
from dreambooth.weights.bundled import draws_toybox
from dreambooth.weights.lora_apply import with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_base, read_model
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["ModelSamples", "Models", "other_models", "read_models", "samples_of_models"]


@dataclass(frozen=True)
class Models:
    """The compared models; tensors stay in their files until they are needed."""

    measured: ModelWeights
    step: int
    """Training steps of the evaluated model; 0 if unknown."""
    base: ModelWeights | None
    others: Mapping[int, ModelWeights]
    """The run's models of other steps, by step, in order."""

    @property
    def is_toybox(self) -> bool:
        """Whether the images are of the small rendered world."""
        return draws_toybox(self.measured)

    @property
    def side(self) -> int:
        """Width and height of the images, in pixels."""
        return self.measured.family.resolution


def read_models(request: EvaluationRequest, asked: EvaluationTarget) -> Models:
    """Find and read all models. Raises ModelFileError for a file that is not a model or no longer exists."""
    measured = with_loras(read_model(asked.model), read_loras(request.loras))
    side, run = measured.family.resolution, asked.run
    step = measured.num_steps or (0 if run is None else run.loop.steps)
    base = None if asked.base is None else _read_base(asked.base, is_given=request.base is not None)
    others: Mapping[int, ModelWeights] = {}
    if run is not None and request.evaluation.num_checkpoint_images > 0:
        others = other_models(expanded(Path(asked.model)), than=step, side=side)
    return Models(measured, step, None if base is None else base.made_for(side), others)


def other_models(run: Path, *, than: int, side: int) -> dict[int, ModelWeights]:
    """The models that a run wrote at steps other than `than`, by the steps recorded in the files."""
    files = sorted(path for pattern in MODELS_BY_STEP for path in run.glob(pattern))
    models = [read_model(str(path)).made_for(side) for path in files]
    steps = {model.num_steps or 0: model for model in models}
    return {step: steps[step] for step in sorted(steps) if step not in (0, than)}


def _read_base(base: BaseModelSettings, *, is_given: bool) -> ModelWeights:
    """The model to compare with. The path recorded in a run may no longer exist."""
    try:
        return read_base(base)
    except ModelFileError as error:
        if is_given:
            raise
        hint = f"This is the base model recorded in the run; if it has moved, use --base MODEL.\n{error.hint or ''}"
        raise ModelFileError(error.problems, hint=hint.strip()) from error


@dataclass(frozen=True)
class ModelSamples:
    """The images of each model, for all subjects together."""

    measured: SampleCache
    step: int
    base: SampleCache | None
    others: Mapping[int, SampleCache]

    def wanted(self, prompt_set: Sequence[PromptSet], *, num_other_images: int) -> list[tuple[SampleCache, list[Picture]]]:
        """The images that each model generates, each once: subjects of one class share its class images."""
        both = [sample_cache for sample_cache in (self.base, self.measured) if sample_cache is not None]
        fewer = [one.fewer(num_other_images) for one in prompt_set]
        asked = [
            *((sample_cache, prompt_set) for sample_cache in both),
            *((sample_cache, fewer) for sample_cache in self.others.values()),
        ]
        return [
            (sample_cache, list(dict.fromkeys(picture for one in ones for picture in one.pictures())))
            for sample_cache, ones in asked
        ]


def samples_of_models(models: Models, asked: EvaluationTarget, sample: SampleSettings, device: torch.device) -> ModelSamples:
    """The image caches of the models."""
    folder = asked.output / "pictures"
    base = None
    if models.base is not None and asked.base is not None:
        base = SampleCache(folder / "base", models.base, asked.base.model, sample, device)
    others = {
        step: SampleCache(folder / f"step-{step:06d}", model, str(model.report.source), sample, device)
        for step, model in models.others.items()
    }
    return ModelSamples(SampleCache(folder / "model", models.measured, asked.model, sample, device), models.step, base, others)
