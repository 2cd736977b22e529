"""Record what the miniature computes, in float64, with the modules of diffusers and transformers and nothing of this package.

    python tests/golden/xl/record.py

The conversion of names is diffusers' own; sampling and training are written out from the original program's formulas. The same
steps over the weights of a larger miniature agreed with a recording by the original program itself: see README.md.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers.models.embeddings
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from rebuild import rebuild_state_dict, sinusoids
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

FOLDER = Path(__file__).parent
TOKENIZER = FOLDER.parents[2] / "src" / "dreambooth" / "families" / "tokenizer"
PROMPTS = (
    "photo of a sks container",
    "photo of a container",
    "photo of a sks container on the moon",
    "",
    "blurry, low quality",
)
SIZES = torch.tensor(
    [
        [800, 600, 37, 5, 64, 64],
        [64, 64, 0, 0, 64, 64],
        [600, 800, 5, 21, 64, 96],
        [1366, 1001, 0, 0, 64, 64],
        [9, 8, 7, 6, 5, 4],
    ]
)
SCALE = 0.13025
RATE, STEPS = 1e-5, 3
CASES = {"unet": (False, 1.0), "unet_te": (True, 1.0), "unet_rw05": (False, 0.5)}
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHA_BAR = torch.cumprod(1 - BETAS, dim=0)

diffusers.models.embeddings.get_timestep_embedding = sinusoids


def text_config(width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        projection_dim=width,
        vocab_size=49408,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
    )


def build() -> SimpleNamespace:
    """The four modules in float64 from the single file's tensors, renamed by diffusers."""
    state = {name: tensor.double() for name, tensor in rebuild_state_dict().items() if tensor.is_floating_point()}
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(1, 2),
        cross_attention_dim=192,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=128 + 1536,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
    )
    first, second = (CLIPTextModel(text_config(64, "quick_gelu")), CLIPTextModelWithProjection(text_config(128, "gelu")))
    clip = "conditioner.embedders.0.transformer.text_model."
    by_name = {name.removeprefix(clip): tensor for name, tensor in state.items() if name.startswith(clip)}
    of_unet = convert_ldm_unet_checkpoint(dict(state), dict(unet.config))
    of_vae = convert_ldm_vae_checkpoint(dict(state), dict(vae.config))
    of_second = convert_open_clip_checkpoint(second, dict(state), prefix="conditioner.embedders.1.model.")
    for module, tensors in ((unet, of_unet), (vae, of_vae), (first, by_name), (second, of_second)):
        module.double().eval().load_state_dict(tensors)
    return SimpleNamespace(unet=unet, vae=vae, first=first, second=second)


def encode(model: SimpleNamespace, ids_1: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both penultimate states without final norm, and the pooled vector."""
    second = model.second(ids_2, output_hidden_states=True)
    return model.first(ids_1, output_hidden_states=True).hidden_states[-2], second.hidden_states[-2], second.text_embeds


def predict(model: SimpleNamespace, x_t: Tensor, t: Tensor, conditioning: Sequence[Tensor]) -> Tensor:
    context, pooled, sizes = conditioning
    added = {"text_embeds": pooled, "time_ids": sizes}
    eps: Tensor = model.unet(x_t, t, encoder_hidden_states=context, added_cond_kwargs=added).sample
    return eps


def euler(x: Tensor, eps_at: Callable[[Tensor, int], Tensor], steps: int) -> Tensor:
    """The original's EulerEDMSampler over its discretised noise levels, the last of which is zero."""
    timesteps = [int(999 - 999 * index / steps) for index in range(steps)]
    sigmas = [*(float(((1 - ALPHA_BAR[t]) / ALPHA_BAR[t]).sqrt()) for t in timesteps), 0.0]
    x = x * (1 + sigmas[0] ** 2) ** 0.5
    for t, sigma, following in zip(timesteps, sigmas, sigmas[1:], strict=False):
        denoised = x - sigma * eps_at(x / (1 + sigma**2) ** 0.5, t)
        x = x + (following - sigma) * (x - denoised) / sigma
    return x


def ddim(x: Tensor, eps_at: Callable[[Tensor, int], Tensor], steps: int) -> Tensor:
    """DDIM with eta 0 as the program for Stable Diffusion 1 does it."""
    timesteps = list(range(1, 1000, 1000 // steps))[::-1]
    for t, previous in zip(timesteps, [*timesteps[1:], 0], strict=True):
        a, b = float(ALPHA_BAR[t]), float(ALPHA_BAR[previous])
        eps = eps_at(x, t)
        x = b**0.5 * (x - (1 - a) ** 0.5 * eps) / a**0.5 + (1 - b) ** 0.5 * eps
    return x


def sample(model: SimpleNamespace, recorded: dict[str, Tensor]) -> None:
    rows = [0, 2]
    context, pooled, sizes = recorded["context"][rows], recorded["pooled"][rows], SIZES[rows]
    others = {
        "zero": (torch.zeros_like(context), torch.zeros_like(pooled)),
        "empty": (recorded["context"][[3, 3]], recorded["pooled"][[3, 3]]),
        "negative": (recorded["context"][[4, 4]], recorded["pooled"][[4, 4]]),
    }
    wanted = (
        ("euler", 1.0, "none"),
        ("euler", 5.0, "zero"),
        ("euler", 5.0, "empty"),
        ("euler", 7.0, "negative"),
        ("ddim", 5.0, "zero"),
    )
    for name, scale, other in wanted:

        def eps_at(x_t: Tensor, t: int, scale: float = scale, other: str = other) -> Tensor:
            t_B = torch.full((2,), t)
            conditional = predict(model, x_t, t_B, (context, pooled, sizes))
            if other == "none":
                return conditional
            unconditional = predict(model, x_t, t_B, (*others[other], sizes))
            return unconditional + scale * (conditional - unconditional)

        solve = euler if name == "euler" else ddim
        recorded[f"{name}_5_{scale}_{other}"] = solve(recorded["x_T"].double(), eps_at, 5)


def train(case: str, recorded: dict[str, Tensor]) -> None:
    """Three steps as the original takes them: two forward passes, the sum of two means, plain AdamW."""
    trains_text, prior_weight = CASES[case]
    model = build()
    modules = [model.unet, *((model.first, model.second) if trains_text else ())]
    adamw = torch.optim.AdamW([parameter for module in modules for parameter in module.parameters()], lr=RATE, foreach=False)
    losses_of_steps, norms = [], []
    for step in range(STEPS):
        losses = []
        for row in (0, 1):
            one = slice(row, row + 1)
            states_1, states_2, pooled = encode(model, recorded["input_ids_1"][one], recorded["input_ids_2"][one])
            context = torch.cat([states_1, states_2], dim=-1)
            if not trains_text:
                context, pooled = context.detach(), pooled.detach()
            eps, t = recorded[f"train_{step}_noise"][one].double(), recorded[f"train_{step}_t"][one]
            x_t = ALPHA_BAR[t].sqrt() * recorded["z_0"][one] + (1 - ALPHA_BAR[t]).sqrt() * eps
            losses.append(torch.nn.functional.mse_loss(predict(model, x_t, t, (context, pooled, SIZES[one])), eps))
        total = losses[0] + prior_weight * losses[1]
        adamw.zero_grad()
        total.backward()
        grads = [parameter.grad for module in modules for parameter in module.parameters() if parameter.grad is not None]
        norms.append(torch.stack([grad.norm() for grad in grads]).norm())
        adamw.step()
        losses_of_steps.append(torch.stack([*losses, total]).detach())
    recorded[f"train_{case}_losses"], recorded[f"train_{case}_norms"] = torch.stack(losses_of_steps), torch.stack(norms)
    with torch.no_grad():
        states_1, states_2, pooled = encode(model, recorded["input_ids_1"][:2], recorded["input_ids_2"][:2])
        context = torch.cat([states_1, states_2], dim=-1)
        recorded[f"train_{case}_after_pooled"] = pooled
        after = predict(model, recorded["z_t"], recorded["t"], (context, pooled, SIZES[:2]))
        recorded[f"train_{case}_after_eps"] = after


def main() -> None:
    recorded: dict[str, Tensor] = {}
    stream = torch.Generator().manual_seed(5)
    for padding, name in (("<|endoftext|>", "input_ids_1"), ("!", "input_ids_2")):
        tokenizer: Any = CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=padding)
        encoded = tokenizer(list(PROMPTS), padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        recorded[name] = encoded.input_ids
    model = build()
    recorded["sizes"] = SIZES
    recorded["noise"], recorded["x_T"] = (torch.randn(2, 4, 16, 16, generator=stream) for _ in range(2))
    recorded["z_wide"] = torch.randn(1, 4, 16, 24, generator=stream)
    recorded["t"], recorded["t_edges"] = torch.tensor([617, 83]), torch.tensor([0, 999])
    recorded["z_0"] = torch.randn(2, 4, 16, 16, generator=stream).double()
    for step in range(STEPS):
        recorded[f"train_{step}_noise"] = torch.randn(2, 4, 16, 16, generator=stream)
        recorded[f"train_{step}_t"] = torch.randint(1000, (2,), generator=stream)
    with torch.no_grad():
        one, two, recorded["pooled"] = encode(model, recorded["input_ids_1"], recorded["input_ids_2"])
        recorded["context"] = torch.cat([one, two], dim=-1)
        conditioning = recorded["context"], recorded["pooled"], SIZES
        first_two, third = [[part[rows] for part in conditioning] for rows in (slice(0, 2), slice(2, 3))]
        a = ALPHA_BAR[recorded["t"]].reshape(-1, 1, 1, 1)
        recorded["z_t"] = a.sqrt() * recorded["z_0"] + (1 - a).sqrt() * recorded["noise"].double()
        recorded["eps"] = predict(model, recorded["z_t"], recorded["t"], first_two)
        recorded["eps_edges"] = predict(model, recorded["z_t"], recorded["t_edges"], first_two)
        recorded["eps_wide"] = predict(model, recorded["z_wide"].double(), recorded["t"][:1], third)
        recorded["recon"] = model.vae.decode(recorded["z_0"][:1] / SCALE).sample.float()
        sample(model, recorded)
    for case in CASES:
        train(case, recorded)
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in recorded.items()},
        FOLDER / "expected.safetensors",
        {"prompts": json.dumps(PROMPTS)},
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
