"""Rebuild the miniature Stable Diffusion 2 checkpoint that the recorded results belong to.

Its weights are random, in the order in which the original code drew them: a stream seeded with 43 gives every module its
default initialisation (UNet, autoencoder, text model), and one seeded with 44 moves what that leaves at zero or one. The text
model draws its positions and its projection, then layer by layer, and last the token table. `sd_v2_mini_layout.txt` holds names
and shapes.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import torch

_FOLDER = Path(__file__).parent
_TEXT = "cond_stage_model.model."
_LOGIT_SCALE = 4.6
_LAST_DRAWN = ((_TEXT + "token_embedding.weight", -0.0352285467), (_TEXT + "ln_final.bias", -0.0160976518))
"""The last element of a tensor at the end of each stream: wrong if anything drawn before went wrong."""

Tensors = dict[str, torch.Tensor]


def _version_1() -> ModuleType:
    """The module that draws the miniature Stable Diffusion 1: UNet and autoencoder are drawn alike."""
    specification = importlib.util.spec_from_file_location("golden_rebuild_v1", _FOLDER.parent / "rebuild.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def rebuild_state_dict() -> Tensors:
    """The whole `state_dict` in the original's order. Raises RuntimeError when this version of torch draws other numbers."""
    common = _version_1()
    lines = (_FOLDER / "sd_v2_mini_layout.txt").read_text(encoding="utf-8").splitlines()
    shapes = {name: tuple(map(int, shape.split("x"))) if shape != "-" else () for name, shape in map(str.split, lines)}
    stream = torch.Generator().manual_seed(43)
    drawn = common._build_unet(shapes, stream) | common._build_vae(shapes, stream) | _build_text(common, shapes, stream)
    scale = {_TEXT + "logit_scale": torch.tensor(_LOGIT_SCALE)}
    parameters = common._perturb({name: drawn[name] for name in shapes if name not in scale}, torch.Generator().manual_seed(44))
    state_dict = common._schedule() | {name: (parameters | scale)[name] for name in shapes}
    for name, expected in _LAST_DRAWN:
        if not math.isclose(state_dict[name].flatten()[-1].item(), expected, abs_tol=1e-6):
            raise RuntimeError(f"torch {torch.__version__} draws other random numbers: {name} is not the recorded tensor")
    return state_dict


def _build_text(common: ModuleType, shapes: dict[str, tuple[int, ...]], stream: torch.Generator) -> Tensors:
    width = shapes[_TEXT + "ln_final.weight"][0]
    text = {
        _TEXT + "positional_embedding": torch.empty(shapes[_TEXT + "positional_embedding"]).normal_(0, 0.01, generator=stream)
    }
    text[_TEXT + "text_projection"] = torch.empty(width, width).normal_(0, width**-0.5, generator=stream)
    for layer in range(sum(name.endswith("attn.in_proj_weight") for name in shapes)):
        block = f"{_TEXT}transformer.resblocks.{layer}."

        def linear(name: str, block: str = block) -> Tensors:
            built: Tensors = common._build_layers([f"{block}{name}.{kind}" for kind in ("weight", "bias")], shapes, stream)
            return built

        text |= linear("attn.out_proj")
        text[block + "attn.out_proj.bias"].zero_()
        bound = math.sqrt(6 / (width + 3 * width))
        text[block + "attn.in_proj_weight"] = torch.empty(3 * width, width).uniform_(-bound, bound, generator=stream)
        text[block + "attn.in_proj_bias"] = torch.zeros(3 * width)
        text |= linear("mlp.c_fc") | linear("mlp.c_proj")
        for norm in ("ln_1", "ln_2"):
            text |= {f"{block}{norm}.weight": torch.ones(width), f"{block}{norm}.bias": torch.zeros(width)}
    table = shapes[_TEXT + "token_embedding.weight"]
    torch.empty(table).normal_(0, 1, generator=stream)  # the default, drawn again at once
    text[_TEXT + "token_embedding.weight"] = torch.empty(table).normal_(0, 0.02, generator=stream)
    text |= {_TEXT + "ln_final.weight": torch.ones(width), _TEXT + "ln_final.bias": torch.zeros(width)}
    return text
