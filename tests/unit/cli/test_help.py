"""The short help shows what matters; the long one shows everything, the rarely used at the end."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.help_groups import LAST, SHORT
from dreambooth.cli.verbs import VERBS
from dreambooth.schema.leaves import leaves


@pytest.fixture(autouse=True)
def _on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def _help(capsys: pytest.CaptureFixture[str], verb: str, flag: str) -> str:
    assert read_arguments(VERBS[verb], VERBS[verb].record(), [flag]).is_answered
    return capsys.readouterr().out


def _flags(text: str) -> list[str]:
    return re.findall(r"^│ [ *]*(--[a-z0-9-]+)", text, re.MULTILINE)


def test_the_short_help_of_train_shows_the_15_flags_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, "train", "-h")
    shown = [flag for flag in _flags(text) if not flag.startswith("--no-")]
    assert sorted(shown) == sorted(f"--{name.replace('_', '-')}" for name in SHORT["train"])
    assert len(shown) == 15
    assert len(text.splitlines()) < 70
    assert "`dreambooth train --help` shows all options." in text


def test_a_verb_with_few_flags_shows_all_in_the_short_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS.keys() - SHORT.keys():
        assert _help(capsys, verb, "-h") == _help(capsys, verb, "--help")


def test_what_is_rarely_used_comes_last_in_the_long_help(capsys: pytest.CaptureFixture[str]) -> None:
    headings = re.findall(r"^╭─ (.*?) ─", _help(capsys, "train", "--help"), re.MULTILINE)
    assert headings[-2:] == list(LAST)
    assert headings[-3] == "Where settings come from"


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
def test_no_verb_with_few_flags_has_a_group_at_the_end(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert "Advanced" not in _help(capsys, verb, "--help")


def test_the_groups_name_flags_of_train_once() -> None:
    names = [name for group in LAST.values() for name in group]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    known = {leaf.name for leaf in leaves(VERBS["train"].record())} | VERBS["train"].extra.keys()
    assert {*names, *SHORT["train"]} <= known
    assert not set(names) & set(SHORT["train"])


def test_what_a_list_of_subjects_replaces_is_not_required_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(re.sub(r"[│\n]", " ", _help(capsys, "photos", "--help")).split())
    assert text.count("[required without --subjects]") == 2 and "[required]" not in text
    assert "dreambooth photos --subjects FILE.yaml" in text
