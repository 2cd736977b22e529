"""BLIP (Li et al., arXiv 2201.12086), trained to answer questions: what is around the subject in a photo?

It is read from a folder in the layout of the library transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreambooth.errors import ModelFileError
from dreambooth.families.quiet_import import quiet_import
from dreambooth.measures.encoders import FROM_A_FOLDER, checked_model, folder_config
from dreambooth.measures.preprocessing import Preprocessing, read_preprocessing
from dreambooth.reading import printable

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip import BlipForQuestionAnswering

__all__ = ["BLIP", "Captioner", "load_captioner"]

BLIP = "Salesforce/blip-vqa-base"
"""Hub id of the published model."""

_KIND = "BlipForQuestionAnswering"
_MOST_TOKENS = 12  # of an answer


@dataclass(frozen=True)
class Captioner:
    """Answers questions about photos."""

    model: BlipForQuestionAnswering
    tokenizer: Any
    preprocessing: Preprocessing

    @torch.no_grad()
    def answer(self, pixels_HWC: NDArray[np.uint8], question: str) -> str:
        """The most likely answer in a few words, the same in every run. The model sees the photo squashed into a square."""
        text = self.tokenizer([question], return_tensors="pt")
        device = self.model.device
        ids_BL = self.model.generate(
            input_ids=text.input_ids.to(device),
            attention_mask=text.attention_mask.to(device),
            pixel_values=self.preprocessing.squashed(pixels_HWC).to(device),
            max_new_tokens=_MOST_TOKENS,
            do_sample=False,
            num_beams=1,
        )
        said = [number for number in ids_BL[0].tolist() if number != self.model.decoder_start_token_id]
        return printable(" ".join(self.tokenizer.decode(said, skip_special_tokens=True).split()))


def load_captioner(folder: Path, *, device: torch.device) -> Captioner:
    """The BLIP in `folder`, in float32 on `device`.

    Raises ModelFileError when the folder does not hold one that answers questions, or not all of it.
    """
    with quiet_import():
        from transformers.models.bert.tokenization_bert import BertTokenizer
        from transformers.models.blip.modeling_blip import BlipForQuestionAnswering

    config = folder_config(folder, "blip", example=BLIP)
    if _KIND not in (kinds := config.get("architectures") or [_KIND]):
        raise ModelFileError(f"{folder}: holds a {kinds[0]}; expected a {_KIND}", hint=f"Use one such as {BLIP}.")
    preprocessing = read_preprocessing(folder)
    try:
        tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library passes on any error of the file readers it uses
        raise ModelFileError(
            f"{folder}: its tokenizer cannot be loaded ({type(error).__name__})",
            hint="Download tokenizer.json or vocab.txt of the same model into it.",
        ) from error
    model = checked_model(lambda: BlipForQuestionAnswering.from_pretrained(folder, **FROM_A_FOLDER), folder)
    return Captioner(model.to(device), tokenizer, preprocessing)
