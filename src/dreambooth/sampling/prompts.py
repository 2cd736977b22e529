"""Prompts: reads them from a file and finds words that the text encoder would cut off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.errors import SettingsError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["cut_warnings", "cut_words", "read_prompts"]


def read_prompts(path: Path, *, name: str = "prompts_file") -> tuple[str, ...]:
    """One prompt per line of a UTF-8 text file, stripped, without blank lines. Messages call the file by `name`.

    Raises SettingsError if the file is missing, is not text or contains no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is {path}: expected text in UTF-8, found other bytes ({error.reason})") from error
    except OSError as error:
        raise SettingsError(f"{name} is {path}: cannot be read: {error.strerror}") from error
    prompts = tuple(stripped for line in lines if (stripped := line.strip()))
    if not prompts:
        raise SettingsError(f"{name} is {path}: expected one prompt a line, found no prompt")
    return prompts


def cut_warnings(tokenizer: CLIPTokenizer, prompts: Iterable[str]) -> list[str]:
    """One sentence for each prompt that is longer than the text encoder's limit, with the words that are cut off."""
    lost = ((prompt, cut_words(tokenizer, prompt)) for prompt in dict.fromkeys(prompts))
    return [
        f'"{prompt[:40]}..." is longer than the 77 tokens the model reads; this part is ignored: "{_shortened(cut)}"'
        for prompt, cut in lost
        if cut
    ]


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def cut_words(tokenizer: CLIPTokenizer, prompt: str) -> str:
    """The end of `prompt` beyond the tokens that a text encoder reads; "" if there is none.

    CLIP reads 77 tokens, two of which mark the start and the end.
    """
    encoded = tokenizer(prompt, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    beyond: list[tuple[int, int]] = encoded["offset_mapping"][tokenizer.model_max_length - 2 :]
    return prompt[beyond[0][0] :].strip() if beyond else ""
