"""The image log of the original program: photos of a step, their VAE reconstructions, and samples for their captions.

The sheets are written to images/train/ of the run under the names that guides expect: inputs, reconstruction, conditioning
(the captions), samples (without guidance) and samples_scaled (guidance 5). Samples use 200 DDIM steps with eta 1, as in the
original, but always start from the same noise, so that they are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.data.examples import Example
from dreambooth.data.photos import read_pixels
from dreambooth.data.views import render_view
from dreambooth.pages.images import caption_image, to_image, write_contact_sheet
from dreambooth.sampling.placing import visiting
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents

if TYPE_CHECKING:
    from dreambooth.trainer.session import Session

__all__ = ["ImageLogLatents", "image_log_latents", "write_image_log"]

_SEED = 42
_STEPS = 200
_SCALES = {"samples": 1.0, "samples_scaled": 5.0}
_COLUMNS = 4

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class ImageLogLatents:
    """The examples of an image log, and the final latents (1, C, H, W) of their samples by sheet name."""

    examples: tuple[Example, ...]
    samples: dict[str, list[Tensor]]


def image_log_latents(session: Session) -> ImageLogLatents:
    """Sample the captions of the step's first photos with the current weights."""
    most = session.ready.previewed.num_logged_images
    source = session.material.source
    examples = tuple(one for one in source.examples_at(session.state.step) if one.role == "instance")[:most]
    pictures = [Picture(example.caption, example.slot) for example in examples]
    with session.state.average.in_place():
        samples = {what: [_latent(session, one, scale) for one in pictures] for what, scale in _SCALES.items()}
    return ImageLogLatents(examples, samples)


def write_image_log(session: Session, latents: ImageLogLatents) -> None:
    """Write the five sheets of this step. Raises ModelFileError for an image that is not finite."""
    size, step = session.ready.size, session.state.step
    background = session.ready.learned.views.background
    inputs = [render_view(read_pixels(one.photo.path, background=background), one.view) for one in latents.examples]
    encoded = session.material.encoded
    means = [encoded.moments[one.photo.digest, one.view].mean * encoded.scaling_factor for one in latents.examples]
    with visiting([session.components.vae], session.ready.device):
        decoded = {what: _decoded(session, all_of) for what, all_of in latents.samples.items()}
        reconstruction = _decoded(session, [mean.unsqueeze(0) for mean in means])
    sheets: dict[str, Images] = {
        "inputs": [to_image((pixels + 1) / 2) for pixels in inputs],
        "reconstruction": reconstruction,
        "conditioning": [caption_image(one.caption, side=size.shorter_side) for one in latents.examples],
        **decoded,
    }
    for what, images in sheets.items():
        rows = [images[start : start + _COLUMNS] for start in range(0, len(images), _COLUMNS)]
        write_contact_sheet(session.ready.run.image_log(what, step), rows)


def _latent(session: Session, picture: Picture, scale: float) -> Tensor:
    size = session.ready.size
    options = SamplingOptions("ddim", _STEPS, guidance_scale=scale, height=size.height, width=size.width, seed=_SEED, eta=1.0)
    dtype = session.ready.policy.compute_dtype
    return final_latents(session.components, [picture], options, device=session.ready.device, dtype=dtype)


def _decoded(session: Session, latents: Sequence[Tensor]) -> Images:
    return [to_image(decode(session.components, latent_BCHW)[0]) for latent_BCHW in latents]
