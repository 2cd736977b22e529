"""Options of other trainers lead to the flag that means the same here, not to the one that looks most alike."""

from __future__ import annotations

import re
import shlex

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.synonyms import IN_OTHER_VERBS, NOT_NEEDED, SYNONYMS
from dreambooth.cli.verbs import VERBS, Verb
from dreambooth.schema.leaves import Leaf, leaves


def _flags(verb: Verb) -> dict[str, Leaf | None]:
    flags: dict[str, Leaf | None] = {f"--{name}": None for name in verb.extra}
    for leaf in leaves(verb.record()):
        if leaf.name not in verb.without:
            flags[leaf.flag] = leaf
            if leaf.is_switch:
                flags[f"--no-{leaf.flag.removeprefix('--')}"] = leaf
    return flags


FLAGS = {verb.name: _flags(verb) for verb in VERBS.values()}
TARGETS = [*SYNONYMS.items(), *((name, text) for name, texts in IN_OTHER_VERBS.items() for text in texts)]


def _problems(verb: Verb, *arguments: str) -> list[str]:
    return list(read_arguments(verb, verb.record(), arguments).problems)


@pytest.mark.parametrize(("name", "text"), [*TARGETS, *NOT_NEEDED.items()])
def test_every_flag_that_is_named_exists(name: str, text: str) -> None:
    assert re.fullmatch("[a-z0-9-]+", name)
    assert name in NOT_NEEDED or any(text.split(maxsplit=1)[0] in flags for flags in FLAGS.values())


@pytest.mark.parametrize("name", SYNONYMS)
def test_the_message_names_the_flag(name: str) -> None:
    reached = set()
    for verb in VERBS.values():
        flags = FLAGS[verb.name]
        texts = (SYNONYMS[name], *IN_OTHER_VERBS.get(name, ()))
        meant = next((text for text in texts if text.split()[0] in flags), None)
        if meant is not None and f"--{name}" not in flags:
            reached.add(meant)
            for typed in (f"--{name}", f"--{name.replace('-', '_')}"):
                assert _problems(verb, typed) == [f"unknown option {typed}; did you mean {meant}?"]
    assert reached


@pytest.mark.parametrize(("name", "text"), [pair for pair in TARGETS if re.fullmatch(r"--\S+ [a-z0-9.]+", pair[1])])
def test_the_values_that_are_named_are_valid(name: str, text: str) -> None:
    verb = VERBS["train"]
    line = f"--model a --photos b --class-word dog {text}"
    settings_from(verb, verb.record(), read_arguments(verb, verb.record(), shlex.split(line)))


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("train --max_train_steps 400", "--steps"),
        ("train --max-train-steps=400", "--steps"),
        ("train --use_8bit_adam", "--optimizer-states 8bit"),
        ("train --pretrained_model_name_or_path x", "--model"),
        ("train --instance_data_dir x", "--photos"),
        ("train --Output_Dir x", "--output"),
        ("generate --num_inference_steps 30", "--sampling-steps"),
        ("evaluate --num_inference_steps 30", "--sampling-steps"),
        ("prior --num_inference_steps 30", "--prior-sampling-steps"),
        ("train --save_precision fp16", "--model-dtype"),
        ("convert --save_precision fp16", "--dtype"),
        ("train --mixed_precision fp16", "--precision"),
    ],
)
def test_what_people_type(line: str, flag: str) -> None:
    verb, *arguments = line.split()
    typed = arguments[0].partition("=")[0]
    assert _problems(VERBS[verb], *arguments) == [f"unknown option {typed}; did you mean {flag}?"]


def test_an_option_without_an_equal_says_why_it_is_not_needed() -> None:
    for name, reason in NOT_NEEDED.items():
        assert _problems(VERBS["train"], f"--{name}") == [f"unknown option --{name}; {reason}"]


def test_the_value_still_counts_so_that_nothing_is_called_missing() -> None:
    given = read_arguments(
        VERBS["train"], VERBS["train"].record(), ["--pretrained_model_name_or_path", "a", "--instance_data_dir", "b"]
    )
    assert given.values == {"base.model": "a", "subject.photos": "b"}
