"""Errors of training in the words of `main.py`: it has other options than `dreambooth train`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dreambooth.compat.training_flags import FLAGS
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import DreamboothError

__all__ = ["OriginalWords", "in_original_words"]

_BOTH = {
    "--class-word": "--class_word",
    "--steps": "--max_training_steps",
    "--flip-probability": "--flip_p",
}
_EARLIER = {
    **_BOTH,
    "--model": "--actual_resume",
    "--photos": "--data_root",
    "--prior-images": "--reg_data_root",
    "--output": "--logdir",
    "--device": "--gpus",
    "--gradient-accumulation": "--accumulate_grad_batches",
    "--learning-rate": "the key model.base_learning_rate",
    "--batch-size": "the key data.params.batch_size",
    "--resolution": "the key data.params.train.params.size",
}
_LATER = {
    **_BOTH,
    "--model": "--training_model",
    "--photos": "--training_images",
    "--prior-images": "--regularization_images",
    "--output": "--project_name",
    "--device": "--gpu",
    "--learning-rate": "--learning_rate",
}
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w-])")
_COMMAND = re.compile(r"\b(?:dreambooth [a-z]|python |torchrun )")  # a line that can be typed as it is


@contextmanager
def in_original_words(*, is_later: bool) -> Iterator[None]:
    """Reword the errors raised inside for one generation of the program."""
    try:
        yield
    except DreamboothError as error:
        words, foreign = _LATER if is_later else _EARLIER, dict[str, None]()
        error.problems = tuple(_reworded(problem, words, foreign) for problem in error.problems)
        hint = None if error.hint is None else _reworded(error.hint, words, foreign)
        if foreign:
            note = f"`dreambooth train` has {', '.join(foreign)}; main.py does not."
            hint = note if hint is None else f"{hint}\n{note}"
        error.hint = hint
        raise


class OriginalWords(ConsoleDisplay):
    """A console whose warnings name the options of one generation of the program."""

    def __init__(self, *, is_later: bool) -> None:
        super().__init__()
        self._words = _LATER if is_later else _EARLIER

    def warn(self, text: str) -> None:
        """A line that says what may go wrong."""
        super().warn(_reworded(text, self._words, {}))


def _reworded(text: str, words: Mapping[str, str], foreign: dict[str, None]) -> str:
    own = {name for flag in FLAGS for name in flag.names}

    def replace(match: re.Match[str]) -> str:
        flag = match[0]
        if flag not in words and flag not in own:
            foreign[flag] = None
        return words.get(flag, flag)

    return "\n".join(line if _COMMAND.search(line) else _FLAG.sub(replace, line) for line in text.split("\n"))
