"""Rebuild the miniature Stable Diffusion v1 checkpoint that the recorded results belong to.

The checkpoint's weights are random, so nothing of its 39 MB has to be stored: this module draws them again, in the order
in which the original code drew them. Two random streams were used. The first is seeded with 11 and gives every module its
default initialisation, in the order in which the modules were built: UNet, autoencoder, text encoder. The second is seeded
with 12; it perturbs what the initialisation leaves at zero or one, so that no parameter is trivial, and then gives the EMA
weights their distance from the raw ones. ``sd_v1_mini_layout.txt`` holds the names and shapes of the parameters, in the
order of the original file, and for the UNet the mean magnitude that scales a parameter's EMA distance: it is recorded
because the rounding of a mean depends on the number of threads.

The result is bit-equal to the original on x86 with AVX2. Elsewhere torch's CPU generators may round differently in the last
bit (up to about 2e-7).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

_LAYOUT = Path(__file__).with_name("sd_v1_mini_layout.txt")
_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
_EMBEDDINGS = (_TEXT + "embeddings.token_embedding.weight", _TEXT + "embeddings.position_embedding.weight")
_ZERO_MODULES = ("out_layers.3", "proj_out", "diffusion_model.out.2")
"""The UNet's layers that the original code sets to zero after building them (``zero_module``)."""
_TEXT_WIDTH, _TEXT_LAYERS = 64, 3
_LAST_DRAWN = (
    (_TEXT + "encoder.layers.2.mlp.fc2.weight", -0.0517177433),
    (_TEXT + "final_layer_norm.bias", 0.0608862564),
    ("model_ema.diffusion_modelout2bias", -0.00829675049),
)
"""The last element of three tensors at the ends of the streams: wrong if anything drawn before them went wrong."""

Shapes = dict[str, tuple[int, ...]]
Tensors = dict[str, torch.Tensor]


def _read_layout() -> tuple[Shapes, dict[str, float]]:
    """Return the shapes of all raw parameters in the original's order, and the mean magnitudes of the UNet's."""
    shapes: Shapes = {}
    magnitudes: dict[str, float] = {}
    for line in _LAYOUT.read_text(encoding="utf-8").splitlines():
        name, shape, *magnitude = line.split()
        shapes[name] = tuple(int(size) for size in shape.split("x"))
        if magnitude:
            magnitudes[name] = float(magnitude[0])
    return shapes, magnitudes


def _build_layers(names: list[str], shapes: Shapes, stream: torch.Generator) -> Tensors:
    """Draw the default initialisation of linear, convolution and norm layers built in the order of ``names``.

    Weights and biases of linear and convolution layers are uniform in 1/sqrt(fan in). The bound of a weight is computed
    as ``kaiming_uniform_(a=sqrt(5))`` does it, since it must round the same way. Norms start at one and zero, undrawn.
    """
    tensors: Tensors = {}
    for name in names:
        layer, kind = name.rsplit(".", 1)
        layer_shape = shapes[layer + ".weight"]
        if len(layer_shape) == 1:
            tensors[name] = torch.full(shapes[name], 1.0 if kind == "weight" else 0.0)
            continue
        fan_in = math.prod(layer_shape[1:])
        bound = 1 / math.sqrt(fan_in)
        if kind == "weight":
            bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(fan_in))
        tensors[name] = torch.empty(shapes[name]).uniform_(-bound, bound, generator=stream)
    return tensors


def _build_unet(shapes: Shapes, stream: torch.Generator) -> Tensors:
    """Draw the UNet; its zero modules take their part of the stream before they are set to zero."""
    unet = _build_layers([name for name in shapes if name.startswith(_UNET)], shapes, stream)
    for name, tensor in unet.items():
        if name.rsplit(".", 1)[0].endswith(_ZERO_MODULES):
            tensor.zero_()
    return unet


def _build_vae(shapes: Shapes, stream: torch.Generator) -> Tensors:
    """Draw the autoencoder; its decoder builds the levels from the last to the first and stores them in reverse."""
    names = [name for name in shapes if name.startswith(_VAE)]
    is_level = [name.startswith(_VAE + "decoder.up.") for name in names]
    start, count = is_level.index(True), sum(is_level)
    levels = sorted(names[start : start + count], key=lambda name: -int(name.split(".")[3]))
    return _build_layers(names[:start] + levels + names[start + count :], shapes, stream)


def _build_text(shapes: Shapes, stream: torch.Generator) -> Tensors:
    """Draw the text encoder, which ``transformers`` initialises three times over.

    First every module's constructor draws, then ``_init_weights`` runs on every module, children first: on each plain
    embedding or linear layer, and once more, with the final scale, on the module that owns it. Only the last draw stays.
    """

    def draw(names: tuple[str, ...], std: float) -> Tensors:
        return {name: torch.empty(shapes[name]).normal_(0.0, std, generator=stream) for name in names}

    names = [name for name in shapes if name.startswith(_TEXT)]
    draw(_EMBEDDINGS, 1.0)
    text = _build_layers([name for name in names if name not in _EMBEDDINGS], shapes, stream)
    for name in names:
        if name.endswith(".bias"):
            text[name].zero_()
    draw(_EMBEDDINGS, 1.0)
    text |= draw(_EMBEDDINGS, 0.02)
    into_residual = _TEXT_WIDTH**-0.5 * (2 * _TEXT_LAYERS) ** -0.5
    for layer in range(_TEXT_LAYERS):
        module = f"{_TEXT}encoder.layers.{layer}."
        q, k, v, out = (f"{module}self_attn.{part}_proj.weight" for part in ("q", "k", "v", "out"))
        fc1, fc2 = f"{module}mlp.fc1.weight", f"{module}mlp.fc2.weight"
        draw((k, v, q, out), 1.0)
        text |= draw((q, k, v), into_residual) | draw((out,), _TEXT_WIDTH**-0.5)
        draw((fc1, fc2), 1.0)
        text |= draw((fc1,), (2 * _TEXT_WIDTH) ** -0.5) | draw((fc2,), into_residual)
    return text


def _perturb(parameters: Tensors, stream: torch.Generator) -> Tensors:
    """Move the parameters with a single axis off zero and one, and fill the weights that are all zero."""
    perturbed: Tensors = {}
    for name, parameter in parameters.items():
        if parameter.dim() == 1:
            perturbed[name] = parameter + 0.02 * torch.randn(parameter.shape, generator=stream)
        elif not parameter.any():
            scale = 0.5 / math.sqrt(parameter[0].numel())
            perturbed[name] = torch.randn(parameter.shape, generator=stream) * scale
        else:
            perturbed[name] = parameter
    return perturbed


def _moving_average(parameters: Tensors, magnitudes: dict[str, float], stream: torch.Generator) -> Tensors:
    """Return EMA weights that differ from the UNet's raw ones by about one hundredth, under the names of ``LitEma``."""
    average: Tensors = {}
    for name, magnitude in magnitudes.items():
        noise = torch.randn(parameters[name].shape, generator=stream)
        ema_name = "model_ema." + name.removeprefix("model.").replace(".", "")
        average[ema_name] = parameters[name] + 0.01 * noise * magnitude
    return average | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(470000, dtype=torch.int32)}


def _schedule() -> Tensors:
    """Return the schedule buffers of the original ``register_schedule``, computed in double precision and then rounded."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    alphas = 1.0 - betas
    cumulative = np.cumprod(alphas)
    previous = np.append(1.0, cumulative[:-1])
    variance = betas * (1.0 - previous) / (1.0 - cumulative)
    buffers = {
        "betas": betas,
        "alphas_cumprod": cumulative,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": np.sqrt(cumulative),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - cumulative),
        "log_one_minus_alphas_cumprod": np.log(1.0 - cumulative),
        "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / cumulative),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / cumulative - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(previous) / (1.0 - cumulative),
        "posterior_mean_coef2": (1.0 - previous) * np.sqrt(alphas) / (1.0 - cumulative),
    }
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in buffers.items()}


def rebuild_state_dict() -> dict[str, torch.Tensor]:
    """Return the whole ``state_dict`` in the original's order; the global random state is left alone.

    Raises ``RuntimeError`` when this version of torch draws other numbers, in which case no recorded result applies.
    """
    shapes, magnitudes = _read_layout()
    stream = torch.Generator().manual_seed(11)
    drawn = _build_unet(shapes, stream) | _build_vae(shapes, stream) | _build_text(shapes, stream)
    stream = torch.Generator().manual_seed(12)
    parameters = _perturb({name: drawn[name] for name in shapes}, stream)
    average = _moving_average(parameters, magnitudes, stream)
    position_ids = {_TEXT + "embeddings.position_ids": torch.arange(77).unsqueeze(0)}
    state_dict = _schedule() | parameters | position_ids | average
    for name, expected in _LAST_DRAWN:
        if not math.isclose(state_dict[name].flatten()[-1].item(), expected, abs_tol=1e-6):
            raise RuntimeError(f"torch {torch.__version__} draws other random numbers: {name} is not the recorded tensor")
    return state_dict


def write_checkpoint(path: Path) -> None:
    """Write a ``.ckpt`` like the one PyTorch Lightning wrote, callbacks keyed by a class of that package included.

    The class is pickled as a mere name, so stand-in modules take the package's place while the file is written.
    """
    package = "pytorch_lightning"
    names = (package, package + ".callbacks", package + ".callbacks.model_checkpoint")
    model_checkpoint = type("ModelCheckpoint", (), {"__module__": names[-1]})
    stubs = {name: ModuleType(name) for name in names}
    vars(stubs[names[-1]])["ModelCheckpoint"] = model_checkpoint
    checkpoint = {
        "state_dict": rebuild_state_dict(),
        "global_step": 470000,
        "epoch": 3,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {model_checkpoint: {"best_model_score": None}},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    present = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(stubs)
    try:
        torch.save(checkpoint, path)
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(present)
