"""Errors of training name the options that `main.py` has."""

from __future__ import annotations

import pytest

from dreambooth.compat.training_flags import EARLIER_ONLY, FLAGS, LATER_ONLY
from dreambooth.compat.wording import _EARLIER, _LATER, OriginalWords, in_original_words
from dreambooth.errors import RunError


def _text(problem: str, hint: str | None, *, is_later: bool = False) -> str:
    with pytest.raises(RunError) as caught, in_original_words(is_later=is_later):
        raise RunError(problem, hint=hint)
    return caught.value.text


def test_every_word_is_an_option_of_its_generation() -> None:
    flags = {name: flag.name for flag in FLAGS for name in flag.names}
    for words, others in ((_EARLIER, LATER_ONLY), (_LATER, EARLIER_ONLY)):
        options = [word for word in words.values() if word.startswith("-")]
        assert [option for option in options if option not in flags or flags[option] in others] == []


def test_options_are_those_of_the_generation() -> None:
    assert _text("x: already holds other files", "Choose another --output.") == (
        "x: already holds other files\nChoose another --logdir."
    )
    assert _text("no photo", "Use --photos or --model.", is_later=True).endswith("Use --training_images or --training_model.")
    assert _text("--token is empty", None) == "--token is empty"


def test_commands_stay_as_they_can_be_typed() -> None:
    hint = "To resume:\n  dreambooth train --resume logs/x --steps 9"
    assert _text("stopped", hint) == f"stopped\n{hint}"


def test_options_that_only_the_other_program_has_are_named() -> None:
    assert _text("x", "Use --precision fp32 or --no-shard.") == (
        "x\nUse --precision fp32 or --no-shard.\n`dreambooth train` has --precision, --no-shard; main.py does not."
    )


@pytest.mark.parametrize(("is_later", "photos"), [(False, "--data_root"), (True, "--training_images")])
def test_warnings_name_the_options_of_the_generation(capsys: pytest.CaptureFixture[str], is_later: bool, photos: str) -> None:
    OriginalWords(is_later=is_later).warn("mirrored; use --flip-probability 0 or other --photos")
    shown = capsys.readouterr()
    assert f"mirrored; use --flip_p 0 or other {photos}" in shown.out + shown.err
