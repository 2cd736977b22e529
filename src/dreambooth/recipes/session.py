"""The moving parts of a run, put together: what is trained, how, and where its models and previews go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dreambooth.data.captions import fill
from dreambooth.memory.recompute import recompute_activations
from dreambooth.recipes.material import Material
from dreambooth.recipes.preflight import Ready
from dreambooth.recipes.previews import Previewer
from dreambooth.recipes.settings import TrainSettings
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.trainees.full import FullTrainee, full_trainee
from dreambooth.training.batches import Batch, Cut, micro_batches
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loop import TrainingState
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.optimizer import make_optimizer
from dreambooth.training.weight_average import NoAverage, WeightAverage
from dreambooth.weights.write import write_single_file

__all__ = ["Session", "start_session"]


@dataclass(frozen=True)
class Session:
    """A trainee, its training state and what is made from it."""

    ready: Ready
    material: Material
    trainee: FullTrainee
    state: TrainingState
    previewer: Previewer

    def batches_at(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a step."""
        settings = self.ready.settings
        return micro_batches(
            self.material.source.examples_at(step),
            self.material.encoded,
            step=step,
            seed=settings.loop.seed,
            cut=Cut(settings.loop.batch_size, self.ready.plan.micro_batch_size),
            prior_weight=settings.prior.prior_weight,
            num_timesteps=self.material.components.family.schedule.num_timesteps,
            device=self.ready.device,
        )

    def write_model(self, path: Path) -> None:
        """Write the model as it is now (its average when one is kept) with everything that made it."""
        settings = self.ready.settings
        with self.state.average.in_place():
            unet, _, text_encoder = self.material.components.family.state_dicts(self.material.components)
            base = self.ready.base
            trained = replace(
                base, unet=unet, text_encoder=text_encoder if settings.trainee.train_text_encoder else base.text_encoder
            )
            write_single_file(path, trained, dtype=STORAGE_DTYPES[settings.output.model_dtype], metadata=self._metadata())

    def make_preview(self) -> Path:
        """Make the preview pictures of the step that was just done, with the weights that a model written now would have."""
        with self.state.average.in_place():
            return self.previewer.make(self.state.step)

    def _metadata(self) -> dict[str, str]:
        settings = self.ready.settings
        return {
            "global_step": str(self.state.step),
            "modelspec.resolution": f"{self.ready.resolution}x{self.ready.resolution}",
            "dreambooth.config": json.dumps(settings.model_dump(mode="json")),
            "dreambooth.made_of": json.dumps(self.material.made_of),
            "modelspec.trigger_phrase": f"{settings.subject.token} {settings.subject.class_word}",
        }


def start_session(ready: Ready, material: Material) -> Session:
    """Put the memory plan, trainee, optimiser, average and loss scale together, before the first step."""
    settings, components = ready.settings, material.components
    trainee = full_trainee(
        components.unet, components.text_encoder, settings.trainee, learning_rate=settings.optimizer.learning_rate
    )
    recompute_activations(trainee.modules.values(), ready.plan.gradient_checkpointing)
    decay = settings.loop.ema_decay
    state = TrainingState(
        denoiser=Denoiser(components, ready.policy, encodes_text=settings.trainee.train_text_encoder),
        optimizer=make_optimizer(
            trainee, settings.optimizer, ready.plan, total_steps=settings.loop.steps, seed=settings.loop.seed
        ),
        average=NoAverage() if decay is None else WeightAverage(trainee.parameters, decay),
        loss_scale=LossScale() if ready.policy.needs_loss_scale else FixedLossScale(),
    )
    previewer = Previewer(
        components=components,
        prompts=_preview_prompts(settings),
        resolution=ready.resolution,
        guidance_scale=settings.output.preview_guidance_scale,
        run=ready.run,
        device=ready.device,
        dtype=ready.policy.compute_dtype,
        model_digest=ready.base.digest(),
    )
    return Session(ready, material, trainee, state, previewer)


def _preview_prompts(settings: TrainSettings) -> tuple[str, ...]:
    words = {"token": settings.subject.token, "class_word": settings.subject.class_word}
    prompts = {
        "instance_prompt": fill(settings.subject.instance_prompt, **words),
        "class_prompt": fill(settings.prior.class_prompt, **words),
    }
    return tuple(prompt.format(**words, **prompts) for prompt in settings.output.preview_prompts)
