"""The metadata written into image files: how an image was made."""

from __future__ import annotations

import json

import torch

from dreambooth import __version__
from dreambooth.sampling.records import Picture, SamplingOptions

__all__ = ["picture_text"]

_SAMPLER_TITLES = {"ddim": "DDIM", "dpm++": "DPM++ 2M", "euler": "Euler", "euler-a": "Euler a", "plms": "PLMS"}


def picture_text(
    picture: Picture, options: SamplingOptions, *, model_digest: str, device: torch.device, dtype: torch.dtype
) -> dict[str, str]:
    """The text chunks of a PNG: "parameters", as other programs read it, and "dreambooth", the same and more as JSON.

    The model hash is computed from the tensors: a file and a folder with the same numbers have the same hash, and it is not
    the hash of a file. Device and dtype change an image only by rounding.
    """
    lines = [picture.prompt]
    if options.negative_prompt:
        lines.append(f"Negative prompt: {options.negative_prompt}")
    facts = {
        "Steps": options.steps,
        "Sampler": _SAMPLER_TITLES[options.sampler],
        "CFG scale": f"{options.guidance_scale:g}",
        "Seed": options.seed,
        "Size": f"{options.width}x{options.height}",
        "Model hash": model_digest[:10],
        **({"Eta": f"{options.eta:g}"} if options.eta else {}),
        **({"Empty negative prompt": "encoded"} if options.encode_empty_prompt else {}),
        "Image index": picture.index,
        **({} if picture.start is None else {"Start noise index": picture.start}),
        "Version": f"dreambooth {__version__}",
    }
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    record = {
        "prompt": picture.prompt,
        "negative_prompt": options.negative_prompt,
        **({"encode_empty_prompt": True} if options.encode_empty_prompt else {}),
        "index": picture.index,
        **({} if picture.start is None else {"start_index": picture.start}),
        "seed": options.seed,
        "sampler": options.sampler,
        "steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "eta": options.eta,
        "width": options.width,
        "height": options.height,
        "model_digest": model_digest,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "version": __version__,
    }
    return {"parameters": "\n".join(lines), "dreambooth": json.dumps(record, ensure_ascii=False)}
