"""Recognizes the family of a model from the names and shapes of its tensors alone.

Each number is read from all tensors that show it, and the most common value wins: a single missing or damaged tensor does
not hide which model it is; it is reported by name afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sd2 import StableDiffusion2
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.sdxl_shapes import SDXL_BASE, SDXL_REFINER, sdxl_problems
from dreambooth.families.shapes import Shape, TextShape, UNetShape, VaeShape

__all__ = ["FOLDER_STEMS", "SUPPORTED", "foreign_kind", "recognise", "recognise_text", "recognise_unet", "recognise_vae"]

SUPPORTED = (
    "Supported are Stable Diffusion 1.x, 2.x and XL text-to-image models: a .ckpt or .safetensors file, or a diffusers folder."
)

FOLDER_STEMS: Mapping[str, tuple[str, ...]] = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}
"""The parts in a diffusers folder of a known family, and the possible names of their weight files."""

Shapes = Mapping[str, Shape]

_FOREIGN_NAMES = (
    (r"(^|\.)lora_(up|down|A|B)\.|^lora_(unet|te)|\.hada_w1|\.lokr_w1", "a LoRA: small changes to a model, not a model"),
    (r"^string_to_(param|token)|^emb_params$|^clip_[lg]$", "a textual-inversion embedding: one learned word, not a model"),
    (r"^control_model\.|^controlnet_|^input_hint_block\.", "a ControlNet: an addition to a model"),
    (r"^conditioner\.embedders\.0\.model\.", SDXL_REFINER),
    (r"^noise_augmentor\.|^embedder\.model\.visual\.", "a Stable Diffusion 2.1 unCLIP checkpoint (it varies images)"),
    (r"^depth_model\.", "a Stable Diffusion 2 depth checkpoint (its UNet also takes a depth map)"),
    (r"^low_scale_model\.|^model\.diffusion_model\.label_emb\.weight$", "a Stable Diffusion upscaler"),
    (
        r"^(model\.diffusion_model\.)?(joint|double|single)_(transformer_)?blocks\.",
        "a diffusion transformer (SD 3, Flux or alike)",
    ),
)
_BARE_PARTS = (
    (r"^down_blocks\.|^input_blocks\.|^output_blocks\.", "a bare UNet"),
    (r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|mid_block)\b", "a bare VAE"),
    (r"^(\w+\.)*(text_model\.)?embeddings\.token_embedding\.", "a bare text encoder"),
)


def foreign_kind(names: Iterable[str]) -> str | None:
    """What a single file is if its tensors' names show that it is not a Stable Diffusion 1 checkpoint; otherwise None."""
    listed = list(names)
    for pattern, kind in _FOREIGN_NAMES:
        if any(re.search(pattern, name) for name in listed):
            return kind
    if any(name.startswith("model.diffusion_model.") for name in listed):
        return None
    if any(name.startswith("model_ema.") for name in listed):
        return "a file with only averaged weights of the UNet (model_ema.*), not those that were averaged"
    vae, text = (any(name.startswith(prefix) for name in listed) for prefix in ("first_stage_model.", "cond_stage_model."))
    if vae and text:
        return "a checkpoint without a UNet (it has a VAE and a text encoder)"
    for pattern, kind in _BARE_PARTS:
        if any(re.search(pattern, name) for name in listed):
            return kind
    return "a file whose tensors belong to no model known here"


def recognise(parts: Mapping[str, Shapes]) -> Family:
    """The family and widths of a model whose parts have these canonical names and shapes.

    Raises ModelFileError naming the kind of model if it belongs to another family, or the contradictions between its parts.
    """
    unet = parts["unet"]
    unet_shape = recognise_unet(unet)
    if unet_shape.vector_width:
        return _recognise_sdxl(parts, unet_shape)
    make = StableDiffusion2 if unet_shape.has_linear_projections else StableDiffusion1
    family = make(unet_shape, recognise_vae(parts["vae"]), recognise_text(parts["text_encoder"]))
    if unet_shape.in_channels != unet_shape.out_channels:
        raise ModelFileError(_extra_channels(unet_shape), hint=SUPPORTED)
    problems = _contradictions(family)
    if problems:
        raise ModelFileError(problems, hint=SUPPORTED)
    return family


def _recognise_sdxl(parts: Mapping[str, Shapes], unet: UNetShape) -> StableDiffusionXL:
    if missing := [name for name in StableDiffusionXL.text_encoders if name not in parts]:
        raise ModelFileError(f"this is a Stable Diffusion XL model without its {' and '.join(missing)}", hint=SUPPORTED)
    text, text_2 = (recognise_text(parts[name]) for name in StableDiffusionXL.text_encoders)
    family = StableDiffusionXL(unet, recognise_vae(parts["vae"]), text, text_2=text_2)
    if unet.in_channels != unet.out_channels:
        raise ModelFileError(f"{_extra_channels(unet)}; use a base model such as {SDXL_BASE}", hint=SUPPORTED)
    if problems := sdxl_problems(family):
        raise ModelFileError(problems, hint=SUPPORTED)
    return family


def _extra_channels(unet: UNetShape) -> str:
    num_channels = unet.in_channels
    kinds = {
        **{9: "an inpainting model", 8: "an instruction (image-to-image) model"},
        **{7: "an upscaler", 5: "a depth-to-image model"},
    }
    kind = kinds.get(num_channels, "a model with additional inputs")
    return f"this is {kind}: its UNet takes {num_channels} channels where text-to-image has {unet.out_channels}"


def _contradictions(family: StableDiffusion1 | StableDiffusion2) -> list[str]:
    unet, vae, text = family.unet, family.vae, family.text
    problems = []
    if unet.context_width != text.width:
        problems.append(f"the UNet expects text states {unet.context_width} wide and the text encoder makes {text.width}")
    if unet.in_channels != vae.latent_channels:
        problems.append(f"the UNet takes {unet.in_channels} latent channels and the VAE makes {vae.latent_channels}")
    if any(depth > 1 for depth in (*unet.depths, unet.middle_depth)):
        deepest = max(*unet.depths, unet.middle_depth)
        problems.append(f"the UNet's attention is {deepest} transformer blocks deep; {family.title} has one everywhere")
    if text.width % 64:
        problems.append(f"the text encoder is {text.width} wide; CLIP's attention heads are 64 wide and do not divide it")
    if isinstance(family, StableDiffusion2) and (odd := [width for width in unet.widths if width % family.head_width]):
        problems.append(
            f"a level of the UNet is {odd[0]} wide; the attention heads of {family.title} are 64 wide and do not divide it"
        )
    problems += [
        f"a level of the {part} is {width} wide, which is not divisible by the 32 groups of its normalization"
        for part, widths in (("UNet", unet.widths), ("VAE", vae.widths))
        for width in widths
        if width % 32
    ]
    return problems


def recognise_unet(shapes: Shapes) -> UNetShape:
    """The widths and counts of a UNet. Raises ModelFileError if none of its tensors shows one of them."""
    part = _Part("UNet", shapes)
    levels = range(part.count(r"down_blocks\.(\d\d?)\."))
    residual = r"(conv1|conv2|norm2|time_emb_proj)\.(weight|bias)"
    in_channels = part.size(r"conv_in\.weight", 1)
    return UNetShape(
        in_channels=in_channels,
        out_channels=part.size(r"conv_out\.(weight|bias)", 0),
        widths=tuple(part.size(rf"down_blocks\.{level}\.resnets\.\d+\.{residual}", 0) for level in levels),
        num_layers=part.count(r"down_blocks\.\d+\.resnets\.(\d\d?)\."),
        depths=tuple(part.count(rf"down_blocks\.{level}\.attentions\.\d+\.transformer_blocks\.(\d\d?)\.") for level in levels),
        middle_depth=part.count(r"mid_block\.attentions\.0\.transformer_blocks\.(\d\d?)\."),
        context_width=part.size(r".*\.attn2\.to_[kv]\.weight", 1),
        has_linear_projections=part.dimensions(r".*\.attentions\.\d+\.proj_(in|out)\.weight") == 2,
        vector_width=part.size(r"add_embedding\.linear_1\.weight", 1) if "add_embedding.linear_1.weight" in shapes else 0,
    )


def recognise_vae(shapes: Shapes) -> VaeShape:
    """The widths and counts of an autoencoder. Raises ModelFileError if none of its tensors shows one of them."""
    part = _Part("VAE", shapes)
    levels = range(part.count(r"encoder\.down_blocks\.(\d\d?)\."))
    residual = r"(conv1|conv2|norm2)\.(weight|bias)"
    return VaeShape(
        pixel_channels=part.size(r"decoder\.conv_out\.(weight|bias)", 0),
        latent_channels=part.size(r"post_quant_conv\.(weight|bias)", 0),
        widths=tuple(part.size(rf"encoder\.down_blocks\.{level}\.resnets\.\d+\.{residual}", 0) for level in levels),
        num_layers=part.count(r"encoder\.down_blocks\.\d+\.resnets\.(\d\d?)\."),
    )


def recognise_text(shapes: Shapes) -> TextShape:
    """The widths and counts of a text encoder. Raises ModelFileError if none of its tensors shows one of them."""
    part = _Part("text encoder", shapes)
    return TextShape(
        vocabulary=part.size(r"embeddings\.token_embedding\.weight", 0),
        num_positions=part.size(r"embeddings\.position_embedding\.weight", 0),
        width=part.size(r"encoder\.layers\.\d+\.layer_norm[12]\.(weight|bias)|final_layer_norm\.(weight|bias)", 0),
        inner_width=part.size(r"encoder\.layers\.\d+\.mlp\.fc1\.(weight|bias)", 0),
        num_layers=part.count(r"encoder\.layers\.(\d\d?)\."),
        projection_width=part.size(r"text_projection\.weight", 0) if "text_projection.weight" in shapes else 0,
    )


class _Part:
    """The tensors of one part of a model, selected by patterns of their names."""

    def __init__(self, title: str, shapes: Shapes) -> None:
        self.title = title
        self.shapes = shapes

    def count(self, pattern: str) -> int:
        """One more than the largest number in the pattern's group; 0 if nothing matches.

        Groups take at most two digits, so that a file that claims a billion levels cannot make this program count them.
        """
        return max((int(found[1]) + 1 for name in self.shapes if (found := re.match(pattern, name))), default=0)

    def size(self, pattern: str, axis: int) -> int:
        """The most common length along `axis` of the tensors whose whole name matches."""
        return self._commonest(pattern, [shape[axis] for shape in self._matching(pattern) if len(shape) > axis])

    def dimensions(self, pattern: str) -> int:
        """The most common number of axes of the tensors whose whole name matches."""
        return self._commonest(pattern, [len(shape) for shape in self._matching(pattern)])

    def _matching(self, pattern: str) -> list[Shape]:
        return [shape for name, shape in self.shapes.items() if re.fullmatch(pattern, name)]

    def _commonest(self, pattern: str, values: list[int]) -> int:
        if not values:
            raise ModelFileError(f"the {self.title} has no tensor named {pattern.replace(chr(92), '')}", hint=SUPPORTED)
        return Counter(values).most_common(1)[0][0]
