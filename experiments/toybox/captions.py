"""Token ids of the captions, several per image, and the text states of all distinct captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreambooth.files import atomic_file
from experiments.toybox.pictures import PictureSet

__all__ = ["LONGEST", "CaptionIds", "caption_ids"]

LONGEST = 24
"""Tokens of the longest caption including start and end tokens, with some margin."""

_DRAWS = 4
_BATCH = 256


@dataclass(frozen=True)
class CaptionIds:
    """The distinct captions as token ids, and the captions of each image."""

    unique_UL: Tensor
    """(U, LONGEST) int64, padded with the end token."""
    of_picture_NK: Tensor
    """(N, K): row of an image's k-th caption in `unique_UL`."""

    @torch.no_grad()
    def states(self, encode: Callable[[Tensor], Tensor], *, length: int, end: int) -> Tensor:
        """Text states of every distinct caption, (U, length, D) bfloat16; `encode` maps ids (B, length) to states."""
        batches = []
        for ids_BL in torch.split(self.unique_UL, _BATCH):
            padded_BL = torch.full((len(ids_BL), length), end, dtype=torch.int64)
            padded_BL[:, : ids_BL.shape[1]] = ids_BL
            batches.append(encode(padded_BL).to("cpu", torch.bfloat16))
        return torch.cat(batches)


def caption_ids(pictures: PictureSet, tokenize: Callable[[list[str]], Tensor], path: Path) -> CaptionIds:
    """The captions of all images, kept in the file `path`. `tokenize` returns ids (B, any length)."""
    if not path.exists():
        texts = [pictures.caption(index, draw=draw) for index in range(pictures.num) for draw in range(_DRAWS)]
        different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        unique = tokenize(list(different))[:, :LONGEST].numpy()
        numbers = np.array([different[text] for text in texts]).reshape(pictures.num, _DRAWS)
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.savez(file, unique=unique, numbers=numbers)
    with np.load(path) as stored:
        return CaptionIds(torch.from_numpy(stored["unique"]), torch.from_numpy(stored["numbers"]))
