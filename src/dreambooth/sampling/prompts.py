"""Prompts: reads them from a file and finds words that the text encoder would cut off."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreambooth.errors import SettingsError
from dreambooth.families.word_tokenizer import pieces
from dreambooth.reading import read_text

__all__ = ["check_no_options", "cut_warnings", "cut_words", "read_prompts", "syntax_warnings"]


def read_prompts(path: Path, *, name: str = "prompts_file") -> tuple[str, ...]:
    """One prompt per line of a UTF-8 text file, stripped, without blank lines. Messages call the file by `name`.

    Raises SettingsError if the file is missing, is not text, contains no prompt, or prompts with options of kohya's trainer.
    """
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is {path}: expected text in UTF-8, found other bytes ({error.reason})") from error
    except ValueError as error:
        raise SettingsError(f"{name} is {path}: {error}") from error
    except OSError as error:
        raise SettingsError(f"{name} is {path}: cannot be read: {error.strerror}") from error
    prompts = tuple(stripped for line in lines if (stripped := line.strip()))
    if not prompts:
        raise SettingsError(f"{name} is {path}: expected one prompt a line, found no prompt")
    check_no_options(lines, path, name=name)
    return prompts


_WEIGHTED = re.compile(
    r"\((?:[^()]|\([^()]*\))+:\s*[+-]?\d*\.?\d+\s*\)"  # (word:1.3), (a (red) hat:1.2)
    r"|\(\([^()]+\)\)|\[\[[^\[\]]+\]\]"  # ((word)), [[word]]
    r"|\[[^\[\]:|]*:[^\[\]:|]*:\s*\d*\.?\d+\s*\]"  # [from:to:0.5]
)
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]+>", re.IGNORECASE)
_OPTION = re.compile(r"(?<!\S)--(?:n|w|h|d|l|s|am|al|cn|ctr|negative_prompt|width|height|seed|steps|scale)(?=\s|=|$)")
_INSTEAD = {
    "--from-file": "--W, --H, --scale or --seed",
    "prompts": "--guidance-scale, --sampling-steps or --seed",
}
"""Name of the file in messages to options of the command that reads it; `generate` is not listed."""
_PLAIN = "The model reads these letters as they are"


def syntax_warnings(prompts: Iterable[str]) -> list[str]:
    """One sentence for each kind of another program's syntax in the prompts, which means nothing here."""
    all_of = tuple(dict.fromkeys(prompts))
    weighted = next((found[0] for one in all_of if (found := _WEIGHTED.search(one))), None)
    network = next((found[0] for one in all_of if (found := _NETWORK.search(one))), None)
    return [
        *([f"{weighted} sets no weight here, as it does in other programs. {_PLAIN}."] if weighted else []),
        *([f"{network} loads no file here, as it does in other programs. {_PLAIN}."] if network else []),
    ]


def check_no_options(lines: Iterable[str], path: Path, *, name: str = "prompts_file") -> None:
    """Raise SettingsError for the options of kohya's trainer behind a prompt (`a dog --n blurry --w 512`).

    `lines` are all lines of the file, so that each message can tell the number of its line.
    """
    instead = _INSTEAD.get(name, "--negative-prompt, --width or --seed")
    problems = [
        f"{name} is {path}: {line.strip()!r} has the option {found[0]} of kohya's trainer in line {number}, which means "
        f"nothing here; remove it, and use options of the command instead, such as {instead}"
        for number, line in enumerate(lines, start=1)
        if (found := _OPTION.search(line))
    ]
    if problems:
        raise SettingsError(problems)


def cut_warnings(tokenizer: Any, prompts: Iterable[str]) -> list[str]:
    """One sentence for each prompt that is longer than the text encoder's limit, with the words that are cut off."""
    lost = ((prompt, cut_words(tokenizer, prompt)) for prompt in dict.fromkeys(prompts))
    return [
        f'"{prompt[:40]}..." is longer than the 75 tokens the model reads; this part is ignored: "{_shortened(cut)}"'
        for prompt, cut in lost
        if cut
    ]


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def cut_words(tokenizer: Any, prompt: str) -> str:
    """The end of `prompt` beyond the tokens that a text encoder reads; "" if there is none.

    CLIP reads 77 tokens, two of which mark the start and the end.
    """
    beyond = pieces(tokenizer, prompt)[tokenizer.model_max_length - 2 :]
    return prompt[beyond[0].start :].strip() if beyond else ""
