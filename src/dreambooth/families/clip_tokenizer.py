"""CLIP's tokenizer, loaded from files in this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.families.quiet_import import quiet_import

if TYPE_CHECKING:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

__all__ = ["NUM_TOKENS", "TOKENIZER_FOLDER", "load_clip_tokenizer"]

TOKENIZER_FOLDER = Path(__file__).parent / "tokenizer"
NUM_TOKENS = 49_408  # a number, so that counting them loads no library


@cache
def load_clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of every CLIP, which pads with the end token. It is shared, so callers must not add tokens to it."""
    with quiet_import():
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

    # Not CLIPTokenizer(vocab_file=...): transformers 5 accepts the argument but then returns wrong ids.
    return CLIPTokenizer.from_pretrained(TOKENIZER_FOLDER, local_files_only=True)
