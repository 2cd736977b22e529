"""Every problem is reported, each with its own hint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dreambooth.errors import DreamboothError, RunError, SettingsError
from dreambooth.trainer.problems import Problems


def _failing(error: DreamboothError) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def _text(*errors: DreamboothError) -> str:
    problems = Problems()
    for error in errors:
        assert problems.attempt(_failing(error)) is None
    with pytest.raises(DreamboothError) as caught:
        problems.raise_if_any()
    return caught.value.text


def test_a_hint_is_below_its_own_problem() -> None:
    text = _text(
        SettingsError("no GPU", hint="Use --device cpu."), RunError(["a", "b"], hint="Choose\nanother."), RunError("c")
    )
    assert text == "- no GPU\n  Use --device cpu.\n- a\n- b\n  Choose\n  another.\n- c"


def test_a_shared_hint_is_given_once() -> None:
    assert _text(RunError("a", hint="Look."), RunError("b", hint="Look.")) == "- a\n- b\nLook."
    assert _text(RunError("a", hint="Look.")) == "a\nLook."


def test_without_a_problem_nothing_is_raised() -> None:
    problems = Problems()
    assert problems.attempt(lambda: 3) == 3
    problems.raise_if_any()


def test_problems_of_one_class_are_raised_as_this_class() -> None:
    for errors, kind in (
        ([SettingsError("a")], SettingsError),
        ([RunError("a", hint="x"), RunError("b")], RunError),
        ([RunError("a"), SettingsError("b")], DreamboothError),
    ):
        with pytest.raises(DreamboothError) as caught:
            Problems(list(errors)).raise_if_any()
        assert type(caught.value) is kind
