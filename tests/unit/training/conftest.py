"""A family of one convolution, so that the loop can be tested in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.objective import example_coefficients
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.randomness import normal, uniform_integer
from dreambooth.diffusion.schedule import scaled_linear_schedule
from dreambooth.families.components import Components
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.runtime.processes import OneProcess
from dreambooth.trainees.full import FullTrainee, full_trainee
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.batches import Batch
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loop import TrainingState
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.optimizer import make_optimizer
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.weight_average import WeightAverage


class TinyFamily:
    """Predicts noise with a convolution plus the mean of the text."""

    schedule = scaled_linear_schedule()
    prediction: Prediction = "epsilon"
    denoiser = "unet"
    text_encoders = ("text_encoder",)

    def encode_text(self, parts: Mapping[str, nn.Module], ids: Tensor) -> Conditioning:
        return Conditioning(parts["text_encoder"](ids))

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        return ()

    def state_dicts(self, parts: Mapping[str, nn.Module]) -> dict[str, Mapping[str, Tensor]]:
        return {name: module.state_dict() for name, module in parts.items()}

    def predict(self, unet: nn.Module, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        text = conditioning.states_BLD
        eps: Tensor = unet(x_t) + text.mean(dim=(1, 2)).reshape(-1, 1, 1, 1) + t.reshape(-1, 1, 1, 1) / 1000
        return eps


class VelocityFamily(TinyFamily):
    """The same numbers, taken for a velocity."""

    prediction: Prediction = "velocity"


@dataclass
class Tiny:
    """A training state with everything in it that a checkpoint must keep, and the batches of every step."""

    settings: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=0.01, warmup_steps=3))
    num_instances: int = 4
    num_priors: int = 4
    prior_weight: float = 0.7
    batch_size: int = 4
    plan: MemoryPlan = field(default_factory=lambda: MemoryPlan("fp32"))
    precision: Any = None
    family: TinyFamily = field(default_factory=TinyFamily)

    def __post_init__(self) -> None:
        if self.precision is not None:
            self.plan = replace(self.plan, precision=self.precision)
        torch.manual_seed(0)
        unet, text_encoder = nn.Conv2d(4, 4, 3, padding=1), nn.Embedding(10, 3)
        for module in (unet, text_encoder):
            module.to(PrecisionPolicy(self.plan.precision, "cpu").weight_dtype)
        components: Any = Components(self.family, {"unet": unet, "text_encoder": text_encoder}, None)  # type: ignore[arg-type]
        self.trainee: FullTrainee = full_trainee(components, TraineeSettings(), learning_rate=0.01)
        policy = PrecisionPolicy(self.plan.precision, "cpu")
        self.state = TrainingState(
            denoiser=Denoiser(components, policy),
            optimizer=make_optimizer(self.trainee, self.settings, self.plan, total_steps=10, processes=OneProcess(), seed=1),
            average=WeightAverage(self.trainee.parameters, 0.9),
            loss_scale=LossScale() if policy.needs_loss_scale else FixedLossScale(),
            processes=OneProcess(),
        )

    def batches_at(self, step: int) -> Iterator[Batch]:
        roles = {"instance": self.num_instances, "prior": self.num_priors}
        for start in range(0, self.num_instances, self.batch_size):
            rows = [(role, slot) for role, count in roles.items() for slot in range(start, min(start + self.batch_size, count))]
            is_prior = torch.tensor([role == "prior" for role, _ in rows])
            yield Batch(
                x_0=torch.stack([normal((4, 8, 8), 1, "x_0", role, slot) for role, slot in rows]),
                eps=torch.stack([normal((4, 8, 8), 1, "eps", step, role, slot) for role, slot in rows]),
                t_B=torch.tensor([uniform_integer(1000, 1, "t", step, role, slot) for role, slot in rows]),
                text=torch.tensor([[slot, len(role)] for role, slot in rows]),
                is_prior_B=is_prior,
                coefficient_B=example_coefficients(
                    is_prior, num_instances=self.num_instances, num_priors=self.num_priors, prior_weight=self.prior_weight
                ),
                names=tuple(f"{role}-{slot}.jpg" for role, slot in rows),
            )


@pytest.fixture
def tiny_velocity() -> Callable[..., Tiny]:
    return partial(Tiny, family=VelocityFamily())


@pytest.fixture
def tiny() -> Callable[..., Tiny]:
    return Tiny


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """The one process that this is, as a group: what `shard` spreads over it has every form that it has over many."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()
