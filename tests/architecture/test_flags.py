"""The flags are the settings: one name each, a sentence each, and no change without a look at the list.

`PYTHONPATH=. python tests/architecture/test_flags.py` writes the list again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dreambooth.cli.verbs import DREAMBOOTH, LORA, TOYBOX, Verb
from dreambooth.config import Settings, field_sentence, section_of
from dreambooth.schema.leaves import leaves
from experiments.toybox.verbs import PROGRAM

VERBS = [verb for program in (DREAMBOOTH, LORA, TOYBOX, PROGRAM) for verb in program.verbs.values()]
LIST = Path(__file__).with_name("flags.txt")


def _record(verb: Verb) -> type[Settings]:
    record: type[Settings] = verb.record()
    return record


def _flags(verb: Verb) -> list[str]:
    given = [leaf for leaf in leaves(_record(verb)) if leaf.name not in verb.without]
    return [leaf.name.upper() if leaf.name in verb.positional else leaf.flag for leaf in given] + [
        f"--{name}" for name in verb.extra
    ]


def _current() -> str:
    return "".join(f"{verb.command} {flag}\n" for verb in VERBS for flag in _flags(verb))


def test_the_list_of_flags_is_up_to_date() -> None:
    assert _current().splitlines() == LIST.read_text(encoding="utf-8").splitlines(), (
        f"look at the change, then: python {__file__}"
    )


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.command)
def test_every_flag_is_the_only_one_of_its_name(verb: Verb) -> None:
    names = Counter([leaf.name for leaf in leaves(_record(verb))] + list(verb.extra))
    assert [name for name, count in names.items() if count > 1] == []


def _without_sentence(record: type[Settings]) -> list[str]:
    wrong = []
    for name in record.model_fields:
        sentence = field_sentence(record, name)
        if not (sentence.endswith(".") and sentence[0].isupper() and len(sentence) > 10):
            wrong.append(f"{record.__name__}.{name}: {sentence!r}")
        if (section := section_of(record, name)) is not None:
            wrong += _without_sentence(section)
    return wrong


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.command)
def test_every_setting_has_a_sentence(verb: Verb) -> None:
    assert _without_sentence(_record(verb)) == []


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.command)
def test_a_verb_and_its_record_say_the_same(verb: Verb) -> None:
    assert verb.sentence == _record(verb).__doc__


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.command)
def test_names_in_the_table_are_leaves(verb: Verb) -> None:
    known = {leaf.name for leaf in leaves(_record(verb))}
    assert {*verb.positional, *verb.without} <= known


if __name__ == "__main__":
    LIST.write_text(_current(), encoding="utf-8")
