"""The parts of a running training: the trainee, its state, and its previews."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from dreambooth.data.captions import fill
from dreambooth.families.components import Components
from dreambooth.runs.model_names import epoch_of
from dreambooth.runtime.shards import gather_on_host
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.trainees.trainee import Trainee
from dreambooth.trainer.assembly import assemble
from dreambooth.trainer.caption_checks import is_silent
from dreambooth.trainer.class_examples import own_subjects, replayed
from dreambooth.trainer.due import Due
from dreambooth.trainer.lora_metadata import lora_metadata
from dreambooth.trainer.material import Material
from dreambooth.trainer.previews import Previewer
from dreambooth.trainer.ready import Ready
from dreambooth.training.batches import Batch, Cut, micro_batches
from dreambooth.training.loop import TrainingState
from dreambooth.training.teacher import DetachedTeacher, NoTeacher, Teacher
from dreambooth.training.validation import validation_losses
from dreambooth.weights.bundled import inherited_metadata
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.products import WholeModel
from dreambooth.weights.subjects import SUBJECTS, subjects_text

__all__ = ["Session", "start_session"]


@dataclass(frozen=True)
class Session:
    """A trainee, its training state and its outputs."""

    ready: Ready
    material: Material
    trainee: Trainee
    state: TrainingState
    previewer: Previewer
    teacher: Teacher

    @property
    def components(self) -> Components:
        """The model in its current state."""
        return self.material.placed.components

    @property
    def images_per_step(self) -> int:
        """Number of photos and class images that all processes together see per step."""
        roles = 2 if self.material.source.priors else 1
        return roles * self.ready.loop.examples_per_step

    def batches_at(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a step."""
        loop, predictions = self.ready.loop, self.material.predictions
        batches = micro_batches(
            self.material.source.examples_at(step),
            self.material.encoded,
            step=step,
            seed=loop.seed,
            cut=Cut(loop.batch_size, self.ready.plan.micro_batch_size, self.ready.processes.share),
            prior_weight=self.ready.learned.prior.prior_weight,
            num_timesteps=self.components.family.schedule.num_timesteps,
            device=self.ready.device,
            prior_targets=None if predictions is None else predictions.at(step),
        )
        targeted = self.teacher.with_targets(batches)
        dropout = self.trainee.dropout
        return targeted if dropout is None else dropout.during(targeted)

    def write_model(self, path: Path) -> None:
        """Write the current model (the EMA weights if they are kept) with its settings and inputs as metadata.

        All processes call this together, and the main one writes; sharded weights are first gathered in its host memory.
        """
        base, processes = self.ready.base, self.ready.processes
        with self.host_values(), self.state.average.in_place(is_exact=True):
            product = self.trainee.product(WholeModel(base), gather=partial(gather_on_host, keeps=processes.is_main))
            with processes.together():
                if processes.is_main:
                    dtype = STORAGE_DTYPES[self.ready.outputs.model_dtype]
                    product.write(path, dtype=dtype, metadata=self._metadata())

    def host_values(self) -> AbstractContextManager[None]:
        """Inside, every weight can be read and written, wherever it is stored during training."""
        return self.material.placed.streamed.host_values()

    @property
    def all_take_part(self) -> bool:
        """Whether every process must take part in every forward pass, because the weights are sharded."""
        return self.ready.plan.shard

    @property
    def due(self) -> Due:
        """What is due after the latest step, unless it was an early stop."""
        return self.ready.intervals.after(self.state.step)

    def validation_losses(self) -> dict[str, float]:
        """The validation loss of each role, with the weights that a model written now would have."""
        with self.state.average.in_place():
            return validation_losses(self.material.validation, self.state.denoiser, device=self.ready.device)

    def preview_latents(self) -> list[Tensor]:
        """The latents of the preview images, with the weights that a model written now would have."""
        with self.state.average.in_place():
            return self.previewer.latents()

    def _metadata(self) -> dict[str, str]:
        learned, photos = self.ready.learned, self.ready.learned.photos
        said = [one for one in learned.subject.each() if not is_silent(photos, one.token)]
        phrases = [fill("{token} {class_word}", token=one.token, class_word=one.class_word) for one in said]
        return {
            "global_step": str(self.state.step),
            "epoch": str(epoch_of(self.state.step, self.ready.run.names.steps_per_epoch)[0]),
            "modelspec.title": self.ready.run.path.absolute().name,
            "modelspec.resolution": f"{self.ready.size.width}x{self.ready.size.height}",
            "dreambooth.config": json.dumps(self.ready.outputs.dump()),
            **inherited_metadata(self.ready.base),
            "dreambooth.made_of": json.dumps(self.material.made_of),
            SUBJECTS: subjects_text(replayed(learned.earlier, learned.prior), own_subjects(learned.photos, learned.subject)),
            **(lora_metadata(self.ready, self.state.step) if self.ready.setup.trainee.trainee == "lora" else {}),
            **({} if learned.new_word is None else {WORD: learned.new_word}),
            **({"modelspec.trigger_phrase": ", ".join(phrases)} if phrases else {}),
        }


def start_session(ready: Ready, material: Material) -> Session:
    """Combine memory plan, trainee, optimizer, EMA weights and loss scale, before the first step."""
    trainee, state = assemble(material.placed, ready.setup, ready.processes)
    previewer = Previewer(
        components=material.placed.components,
        prompts=ready.previewed.prompts,
        size=ready.size,
        guidance_scale=ready.previewed.guidance_scale,
        run=ready.run,
        device=ready.device,
        dtype=ready.policy.compute_dtype,
        model_digest=ready.base.digest(),
    )
    teacher: Teacher = NoTeacher()
    if ready.setup.trainee.keeps_base and ready.learned.prior.prior_target == "prediction":
        teacher = DetachedTeacher(state.denoiser, trainee, WholeModel(ready.base))
    return Session(ready, material, trainee, state, previewer, teacher)
