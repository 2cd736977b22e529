"""DreamBooth as the documentation of diffusers' `train_dreambooth.py` describes it, written with diffusers' own classes.

One photo and one class image for each example of a batch; both pass through the VAE in every step; the loss is the mean squared
error of the noise for photos plus that for class images; gradients are clipped to a norm of 1; AdamW's weight decay is 0.01.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

__all__ = ["Job", "train_like_diffusers"]


@dataclass(frozen=True)
class Job:
    """What is trained; the remaining values are the script's defaults."""

    model: Path
    """A diffusers folder."""
    photos: Path
    class_images: Path
    instance_prompt: str
    class_prompt: str
    resolution: int
    learning_rate: float
    batch_size: int
    steps: int
    seed: int


class _Pairs(Dataset[tuple[Tensor, Tensor]]):
    """A photo and a class image for each index of the longer set, in [-1, 1], (3, H, W)."""

    def __init__(self, job: Job) -> None:
        self.photos, self.class_images = (
            [_pixels(path, job.resolution) for path in sorted(folder.glob("*.png"))]
            for folder in (job.photos, job.class_images)
        )

    def __len__(self) -> int:
        return max(len(self.photos), len(self.class_images))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.photos[index % len(self.photos)], self.class_images[index % len(self.class_images)]


def train_like_diffusers(job: Job, output: Path) -> None:
    """Train UNet and text encoder, and write a diffusers folder to `output`."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    torch.manual_seed(job.seed)
    pipeline = StableDiffusionPipeline.from_pretrained(
        job.model, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float32
    )
    unet, text_encoder, vae = pipeline.unet.train(), pipeline.text_encoder.train(), pipeline.vae.requires_grad_(False).eval()
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    ids = [_ids(pipeline.tokenizer, prompt) for prompt in (job.instance_prompt, job.class_prompt)]
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=job.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    loader = DataLoader(_Pairs(job), batch_size=job.batch_size, shuffle=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for photos, class_images in itertools.islice(batches, job.steps):
        pixels = torch.cat([photos, class_images])
        with torch.no_grad():
            x_0 = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        eps = torch.randn_like(x_0)
        t_B = torch.randint(0, scheduler.config.num_train_timesteps, (len(x_0),))
        tokens = torch.cat([one.expand(len(photos), -1) for one in ids])
        predicted = unet(scheduler.add_noise(x_0, eps, t_B), t_B, text_encoder(tokens)[0]).sample
        loss = sum(F.mse_loss(*halves) for halves in zip(predicted.chunk(2), eps.chunk(2), strict=True))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    pipeline.save_pretrained(output)


def _pixels(path: Path, side: int) -> Tensor:
    with Image.open(path) as image:
        short = min(image.size)
        scaled = image.convert("RGB").resize([round(size * side / short) for size in image.size], Image.Resampling.BILINEAR)
    left, top = (scaled.width - side) // 2, (scaled.height - side) // 2
    pixels = np.asarray(scaled.crop((left, top, left + side, top + side)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def _ids(tokenizer: object, prompt: str) -> Tensor:
    assert callable(tokenizer)
    ids: Tensor = tokenizer(prompt, truncation=True, padding="max_length", max_length=77, return_tensors="pt").input_ids
    return ids
