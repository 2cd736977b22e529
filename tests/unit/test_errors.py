"""The family of exceptions: one problem reads as a sentence, several as a list, the hint comes last."""

from __future__ import annotations

import pickle

import pytest

from dreambooth import errors
from dreambooth.errors import DreamboothError, Interrupted, SettingsError


def test_one_problem_is_a_sentence() -> None:
    error = SettingsError("steps is 0: expected at least 1", hint="Type: dreambooth train --steps 800")
    assert error.problems == ("steps is 0: expected at least 1",)
    assert str(error) == error.text == "steps is 0: expected at least 1\nType: dreambooth train --steps 800"


def test_several_problems_are_a_list() -> None:
    assert DreamboothError(["one", "two"]).text == "- one\n- two"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name not in ("DreamboothError", "Interrupted")])
def test_every_mistake_is_of_the_family(name: str) -> None:
    assert issubclass(getattr(errors, name), DreamboothError)


def test_the_tree_in_the_docstring_is_complete() -> None:
    assert errors.__doc__ is not None
    assert [name for name in errors.__all__ if name not in errors.__doc__] == []


def test_an_interruption_is_no_mistake() -> None:
    stop = Interrupted("Saved at step 12.", exit_code=130)
    assert not isinstance(stop, DreamboothError)
    assert (stop.text, stop.exit_code, str(stop)) == ("Saved at step 12.", 130, "Saved at step 12.")


@pytest.mark.parametrize(
    "error", [SettingsError(["a", "b"], hint="c"), Interrupted("Saved.", exit_code=143)], ids=["error", "stop"]
)
def test_an_error_reaches_another_process_whole(error: BaseException) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_of_thousands_of_problems_a_hundred_are_shown() -> None:
    error = SettingsError([f"problem {number}" for number in range(5000)], hint="Do this.")
    lines = error.text.splitlines()
    assert len(lines) == 102 and lines[-3:] == ["- problem 99", "- and 4900 more", "Do this."]
