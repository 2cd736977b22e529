"""The stages of pretraining that train the two networks for evaluation: the judge and the eye."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreambooth.diffusion.randomness import generator, seeded
from dreambooth.families.untrained import untrained_vit
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.judge import ATTRIBUTES, Judge
from dreambooth.training.weight_average import WeightAverage
from experiments.toybox.judging import accuracies, judging_loss
from experiments.toybox.lookalikes import GROUP, MEMBERS, VIEWS, draw_pairs, num_groups_seen
from experiments.toybox.parts import Parts
from experiments.toybox.pictures import mirrored_at_random, to_pixels
from experiments.toybox.run_stage import run_stage
from experiments.toybox.seeing import object_heads, readings, seeing_loss, tells_apart
from experiments.toybox.stages import Plan, Stage

__all__ = ["train_eye", "train_judge"]

_GROUPS_AT_ONCE = 24


def train_judge(parts: Parts) -> None:
    """Train the network that classifies what an image shows; its weights go to `judge.safetensors`."""
    settings, device, sets = parts.settings, parts.device, (parts.world, parts.subjects)
    with seeded(settings.seed):
        judge = Judge().to(device)
    parameters, plan = dict(judge.named_parameters()), Plan(settings.judge_steps, 96, 2e-3, weight_decay=0.05)
    average = WeightAverage(parameters, 0.999)
    stage = Stage(parts.file("judge-state.safetensors"), parameters, average, plan)
    pictures = torch.cat([parts.rendered(one) for one in sets])
    labels = {name: torch.cat([one.labels()[name] for one in sets]).to(device) for name in ATTRIBUTES}
    offsets = {"the world": 0, "subjects": parts.world.num}
    held_out = {
        where: offset + torch.arange(one.num_seen, one.num) for (where, offset), one in zip(offsets.items(), sets, strict=True)
    }
    is_seen = torch.ones(len(pictures), dtype=torch.bool)
    is_seen[torch.cat(list(held_out.values()))] = False
    learned = is_seen.nonzero().flatten()

    def loss_at(step: int) -> Tensor:
        random = generator(settings.seed, "judge rows", step)
        rows = learned[torch.randint(len(learned), (plan.batch_size,), generator=random)]
        pixels = mirrored_at_random(to_pixels(pictures[rows]), random)
        batch = {name: label[rows.to(device)] for name, label in labels.items()}
        return judging_loss(judge, pixels.to(device), batch, random)

    def look(step: int) -> None:
        with average.in_place():
            for where, rows in held_out.items():
                right = {name: label[rows.to(device)] for name, label in labels.items()}
                found = accuracies(judge, to_pixels(pictures[rows]).to(device), right)
                shown = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
                parts.display.say(f"step {step}, {where}: {shown}")

    run_stage("judge", stage, loss_at, parts.display, look=look)
    with average.in_place():
        write_tensors(parts.file("judge.safetensors"), dict(judge.named_parameters()), dtype=torch.float16)


def train_eye(parts: Parts) -> None:
    """Train the vision transformer whose features distinguish objects; `eye.safetensors` holds its weights and results."""
    settings, device = parts.settings, parts.device
    vit = untrained_vit(EYE, seed=settings.seed).to(device)
    if device.type == "cpu":  # a step of 192 images in bfloat16 on one thread takes 0.58 s; with torch's fused attention 0.87 s
        vit.set_attn_implementation("eager")
    heads = object_heads(EYE["hidden_size"], seed=settings.seed).to(device)
    parameters = dict(nn.ModuleDict({"eye": vit, "heads": heads}).named_parameters())
    plan = Plan(settings.eye_steps, 2 * MEMBERS * _GROUPS_AT_ONCE, 1e-3, weight_decay=0.05)
    average = WeightAverage(parameters, 0.999)
    stage = Stage(parts.file("eye-state.safetensors"), parameters, average, plan)
    pictures, labels = parts.rendered(parts.lookalikes), parts.lookalikes.labels()
    num_groups = num_groups_seen(parts.lookalikes.num)
    held_out = torch.arange(num_groups * GROUP, parts.lookalikes.num // GROUP * GROUP)

    def loss_at(step: int) -> Tensor:
        random = generator(settings.seed, "eye rows", step)
        rows = draw_pairs(num_groups, most=_GROUPS_AT_ONCE, random=random)
        pixels = mirrored_at_random(to_pixels(pictures[rows]), random)
        batch = {name: labels[name][rows].to(device) for name in heads}
        objects = (rows // VIEWS).to(device)
        return seeing_loss(vit, heads, pixels.to(device), objects_B=objects, labels=batch, random=random)

    def measured() -> dict[str, float]:
        pixels, right = to_pixels(pictures[held_out]).to(device), {name: labels[name][held_out].to(device) for name in heads}
        with average.in_place():
            apart = tells_apart(vit, pixels, (held_out // VIEWS).to(device), right["class"])
            read = accuracies(lambda some: readings(vit, heads, some), pixels, right)
        return {**{f"AUC against {name}": area for name, area in apart.items()}, **read}

    def look(step: int) -> None:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in measured().items())
        parts.display.say(f"step {step}, held-out images: {shown}")

    run_stage("eye", stage, loss_at, parts.display, look=look)
    about = {"dreambooth.seed": str(settings.seed), **{f"dreambooth.{k}": f"{v:.4f}" for k, v in measured().items()}}
    with average.in_place():
        tensors = dict(vit.named_parameters())
        write_tensors(parts.file("eye.safetensors"), tensors, dtype=torch.float16, metadata=about)
