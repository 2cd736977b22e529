"""CLIPSeg (Lüddecke and Ecker, arXiv 2112.10003): where in a photo is what some words name?

It is read from a folder in the layout of the library transformers. Shapes: H and W height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.families.quiet_import import quiet_import
from dreambooth.measures.encoders import FROM_A_FOLDER, check_clip_vocabulary, checked_model, folder_config
from dreambooth.measures.preprocessing import Preprocessing, read_preprocessing

if TYPE_CHECKING:
    from transformers.models.clipseg.modeling_clipseg import CLIPSegForImageSegmentation

__all__ = ["CLIPSEG", "Segmenter", "load_segmenter"]

CLIPSEG = "CIDAS/clipseg-rd64-refined"
"""Hub id of the published model with the finer output."""


@dataclass(frozen=True)
class Segmenter:
    """Finds the pixels that words name."""

    model: CLIPSegForImageSegmentation
    preprocessing: Preprocessing

    @torch.no_grad()
    def probabilities(self, pixels_HWC: NDArray[np.uint8], words: str) -> Tensor:
        """How likely each pixel of a photo shows what the words name, (H, W) float32 in [0, 1] on the CPU.

        The model sees the photo squashed into a square, as it was trained.
        """
        length = self.model.config.text_config.max_position_embeddings
        text = load_clip_tokenizer()([words], padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        device = self.model.device
        logits = self.model(
            input_ids=text.input_ids.to(device),
            attention_mask=text.attention_mask.to(device),
            pixel_values=self.preprocessing.squashed(pixels_HWC).to(device),
        ).logits
        square_11hw = logits.float().cpu().reshape(1, 1, *logits.shape[-2:])
        found_11HW = F.interpolate(square_11hw, size=pixels_HWC.shape[:2], mode="bilinear", align_corners=False)
        return found_11HW[0, 0].sigmoid()


def load_segmenter(folder: Path, *, device: torch.device) -> Segmenter:
    """The CLIPSeg in `folder`, in float32 on `device`. Its words are tokenized by the bundled tokenizer, which is CLIP's.

    Raises ModelFileError when the folder does not hold one, or not all of it, or one of another vocabulary.
    """
    with quiet_import():
        from transformers.models.clipseg.modeling_clipseg import CLIPSegForImageSegmentation

    folder_config(folder, "clipseg", example=CLIPSEG)
    preprocessing = read_preprocessing(folder)
    model = checked_model(lambda: CLIPSegForImageSegmentation.from_pretrained(folder, **FROM_A_FOLDER), folder)
    check_clip_vocabulary(model, folder, hint=f"Use {CLIPSEG}, or another CLIPSeg made from OpenAI's CLIP.")
    return Segmenter(model.to(device), preprocessing)
