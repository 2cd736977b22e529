"""A training run on synthetic images: the product's own assembly, batches and loop, without photos and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.models import Part, random_components
from dreambooth.config import parse_settings
from dreambooth.data.examples import ExampleSource
from dreambooth.data.records import CaptionedPhoto, Photo, Role
from dreambooth.data.size import Size
from dreambooth.data.views import held_out_view
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal
from dreambooth.estimate.choice import possible_plan
from dreambooth.estimate.peak import estimate_memory
from dreambooth.families.attention import use_plain_attention
from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.device import release_memory
from dreambooth.runtime.precision import PrecisionPolicy, choose_precision, has_bfloat16
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.trainee import Trainee
from dreambooth.trainer.assembly import TrainingSetup, assemble, place_for_training
from dreambooth.trainer.encode import encode_captions
from dreambooth.trainer.workload import workload_of
from dreambooth.training.batches import Batch, Cut, Encoded, ViewKey, micro_batches
from dreambooth.training.loop import StepResult, TrainingState, training_steps
from dreambooth.training.validation import ValidationItem

__all__ = ["CAPTIONS", "StepChoices", "SyntheticRun", "start_run"]

CAPTIONS = {"instance": "photo of a sks dog", "prior": "photo of a dog"}
_NUM_PICTURES = 8  # of each role
_DEVIATION = 0.1  # of the posterior, beside a mean of the deviation that latents have
_NUM_STEPS = 10**6  # none is the last one


@dataclass(frozen=True)
class StepChoices:
    """The settings of a run that affect the speed and memory of a step."""

    memory: dict[str, Any]
    """Fields of the memory settings: the preset and overrides."""
    trains_text_encoder: bool = True
    batch_size: int = 1
    compile: str = "off"
    has_plain_attention: bool = False
    """Whether the UNet's attention is computed as three plain products instead of the product's choice."""
    learning_rate: float = 1e-6
    seed: int = 23

    def settings(self, resolution: int) -> TrainSettings:
        """The equivalent settings of the product."""
        values = {
            "base": {"model": "random weights"},
            "subject": {"photos": "photos", "class_word": "dog"},
            "views": {"resolution": resolution},
            "trainee": {"train_text_encoder": self.trains_text_encoder},
            "optimizer": {"learning_rate": self.learning_rate},
            "loop": {"batch_size": self.batch_size, "seed": self.seed, "compile": self.compile, "steps": _NUM_STEPS},
            "memory": self.memory,
            "output": {"preview_steps": 0},
        }
        return parse_settings(TrainSettings, values, where="benchmark")


@dataclass(frozen=True)
class SyntheticRun:
    """A run, before its first step or later."""

    settings: TrainSettings
    size: Size
    plan: MemoryPlan
    policy: PrecisionPolicy
    device: torch.device
    components: Components
    trainee: Trainee
    state: TrainingState
    source: ExampleSource
    encoded: Encoded

    @property
    def images_per_step(self) -> int:
        """Number of photos and class images per step."""
        return 2 * self.settings.loop.batch_size

    def batches_at(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a step, made as in a real run."""
        loop, prior = self.settings.loop, self.settings.prior
        return micro_batches(
            self.source.examples_at(step),
            self.encoded,
            step=step,
            seed=loop.seed,
            cut=Cut(loop.batch_size, self.plan.micro_batch_size),
            prior_weight=prior.prior_weight,
            num_timesteps=self.components.family.schedule.num_timesteps,
            device=self.device,
        )

    @cached_property
    def steps(self) -> Iterator[StepResult]:
        """The loop of the product, which yields once per step."""
        return training_steps(self.state, self.batches_at, last_step=_NUM_STEPS)

    def validation_items(self) -> tuple[ValidationItem, ...]:
        """Held-out views of some images of each role, which training does not see."""

        def item(role: Role, one: CaptionedPhoto) -> ValidationItem:
            key = one.photo.digest, held_out_view(one.photo, self.size)
            return ValidationItem(
                role, self.encoded.moments[key].mean * self.encoded.scaling_factor, self.encoded.text[one.caption]
            )

        instances, priors = self.source.instances[:4], self.source.priors[:4]
        return (*(item("instance", one) for one in instances), *(item("prior", one) for one in priors))

    def predicted_peak(self) -> int:
        """Bytes that the product's estimate gives for the training step of this run."""
        workload = workload_of(self.settings, self.size)
        phases = estimate_memory(self.components.family, self.plan, workload).phases
        return next(phase.use.total for phase in phases if phase.name == "training step")

    def switches(self) -> dict[str, object]:
        """The active options: those requested, and for some of them the state of the modules."""
        unet: Any = self.components.denoiser
        text_encoder: Any = self.components.parts["text_encoder"]
        return {
            "preset": self.settings.memory.memory_preset,
            **{f"plan_{name}": value for name, value in vars(self.plan).items()},
            "compile": self.settings.loop.compile,
            "attention": ", ".join(sorted({type(one).__name__ for one in unet.attn_processors.values()})),
            "text_attention": str(text_encoder.config._attn_implementation),
            "channels_last": _is_channels_last(unet),
            "dtype": self.policy.name,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "optimizer": type(self.state.optimizer).__name__,
            "train_text_encoder": self.settings.trainee.train_text_encoder,
            "batch": self.settings.loop.batch_size,
            "class_images": self.settings.loop.batch_size,
            "resolution": self.size.width,
        }


def start_run(
    family: Family,
    choices: StepChoices,
    *,
    device: torch.device,
    resolution: int | None = None,
    components: Components | None = None,
) -> SyntheticRun:
    """Build, place and assemble. Without `components` the weights are random and made on the device."""
    size = Size.square(resolution or family.resolution)
    settings = choices.settings(size.width)
    workload, preset = workload_of(settings, size), settings.memory.memory_preset
    assert preset != "auto", "name a preset: auto looks at what is free"
    plan = possible_plan(preset, settings.memory, workload, has_bfloat16=has_bfloat16(device))
    policy = choose_precision(plan.precision, device)
    learns = choices.trains_text_encoder
    if components is None:
        components = random_components(
            family,
            unet=Part(torch.device("cpu") if plan.stream_blocks else device, policy.weight_dtype),
            text_encoder=Part(device, policy.weight_dtype if learns else torch.float32),
            vae=None,
            seed=choices.seed,
        )
    if choices.has_plain_attention:
        use_plain_attention(components.denoiser)
    setup = TrainingSetup(settings.trainee, settings.optimizer, settings.loop, plan, policy)
    placed = place_for_training(components, setup, device)
    source, moments = _synthetic_pictures(family, settings, size)
    text = encode_captions(components, source.captions(), as_ids=learns, device=device)
    if not learns:
        components.parts["text_encoder"].to("cpu")
    release_memory(device)
    trainee, state = assemble(placed, setup, OneProcess())
    encoded = Encoded(moments, text, family.scaling_factor)
    return SyntheticRun(settings, size, plan, policy, device, components, trainee, state, source, encoded)


def _synthetic_pictures(
    family: Family, settings: TrainSettings, size: Size
) -> tuple[ExampleSource, dict[ViewKey, LatentMoments]]:
    """Images that exist only by name, with a random posterior of every view, of the size of real latents."""

    def pictures(role: str) -> tuple[CaptionedPhoto, ...]:
        names = [f"{role}-{number}" for number in range(_NUM_PICTURES)]
        return tuple(
            CaptionedPhoto(Photo(Path(f"{name}.png"), name, size.width, size.height, None), CAPTIONS[role]) for name in names
        )

    source = ExampleSource(
        pictures("instance"), pictures("prior"), settings.views, size, settings.loop.examples_per_step, settings.loop.seed
    )
    held_out = [(one.photo, held_out_view(one.photo, size)) for one in (*source.instances, *source.priors)]
    latent = (family.latent_channels, size.height // family.downsampling, size.width // family.downsampling)
    moments = {}
    for photo, view in (*source.views_used(_NUM_STEPS), *held_out):
        mean = normal(latent, settings.loop.seed, "picture", photo.digest, str(view)) / family.scaling_factor
        moments[photo.digest, view] = LatentMoments(mean, torch.full_like(mean, _DEVIATION / family.scaling_factor))
    return source, moments


def _is_channels_last(unet: nn.Module) -> bool:
    weight = unet.get_submodule("conv_in").weight
    assert isinstance(weight, torch.Tensor)
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
