"""Properties of settings, captions, names and shown texts that hold for every input that hypothesis thinks of."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreambooth.config import parse_settings, yaml_text, yaml_value
from dreambooth.data.captions import fill, fixed
from dreambooth.data.settings import check_template
from dreambooth.display import quoted
from dreambooth.errors import SettingsError
from dreambooth.reading import parse_json, printable, shown_value, without_controls
from dreambooth.sampling.names import file_stem
from dreambooth.schema.verbs import GenerateSettings, TrainSettings
from dreambooth.yaml_reading import parse_yaml

WORDS = frozenset({"token", "class_word"})
COMMON = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(COMMON, max_examples=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just("a\x00b") | st.just("~x/y")
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)
sections = [*TrainSettings.model_fields, "unknown", "a.b", "{x}"]


def _keys(record: Any) -> list[str]:
    return [name for section in record.model_fields.values() for name in getattr(section.annotation, "model_fields", {})]


@FEW
@given(
    st.dictionaries(
        st.sampled_from(sections), st.dictionaries(st.sampled_from(_keys(TrainSettings)) | st.text(), trees) | trees
    )
)
def test_any_tree_is_settings_or_refused_in_our_words(tree: dict[str, Any]) -> None:
    for record in (TrainSettings, GenerateSettings):
        with contextlib.suppress(SettingsError):
            parse_settings(record, tree, where="x.yaml")


@COMMON
@given(st.text(), st.text(), st.text())
def test_a_caption_template_is_refused_or_filled_with_its_words_alone(template: str, token: str, class_word: str) -> None:
    try:
        check_template(template, WORDS)
    except ValueError:
        return
    filled = fill(template, token=token, class_word=class_word)
    expected = template.replace("{{", "\ue000").replace("}}", "\ue001")
    for word, value in (("{token}", "\ue002"), ("{class_word}", "\ue003")):
        expected = expected.replace(word, value)
    expected = expected.replace("\ue002", token).replace("\ue003", class_word).replace("\ue000", "{").replace("\ue001", "}")
    assert filled == (expected if class_word.strip() else " ".join(expected.split()))


@COMMON
@given(
    st.sampled_from(["{token.__class__}", "{token[0]}", "{token!r}", "{token:>9999999999}", "{0}", "{}", "{class_word.x}"]),
    st.text(),
)
def test_a_template_reaches_into_nothing(field: str, around: str) -> None:
    with contextlib.suppress(ValueError):
        check_template(fixed(around) + field, WORDS)
        raise AssertionError(field)


@COMMON
@given(st.text())
def test_a_caption_that_is_fixed_stays_as_it_is(caption: str) -> None:
    assert fill(fixed(caption), token="{x}", class_word="{y.z}") == caption


@COMMON
@given(st.text(alphabet=st.characters(blacklist_characters="\0")))
def test_a_quoted_word_is_one_word_of_a_shell(word: str) -> None:
    if not any("\ud800" <= letter <= "\udfff" for letter in word):
        assert shlex.split(quoted(word)) == [word]


@COMMON
@given(st.text(), trees)
def test_what_is_shown_controls_no_terminal(text: str, tree: Any) -> None:
    assert all(letter in "\n\t" or (letter >= " " and not "\x7f" <= letter < "\xa0") for letter in without_controls(text))
    assert printable(text).isprintable() and len(printable(text)) <= 203
    assert shown_value(tree).isprintable() and len(shown_value(tree)) <= 203


@COMMON
@given(st.text())
def test_a_prompt_becomes_a_plain_file_name(prompt: str) -> None:
    stem = file_stem(prompt)
    assert stem and Path(stem).name == stem and stem not in (".", "..") and len(stem.encode()) <= 170 and stem.isprintable()


@COMMON
@given(
    st.dictionaries(
        st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc"))), st.integers(-(2**63), 2**63) | st.text(max_size=5)
    )
)
def test_plain_values_come_back_from_yaml_and_json(values: dict[str, Any]) -> None:
    assert parse_json(json.dumps(values)) == values
    with contextlib.suppress(ValueError):
        assert parse_yaml(yaml_text(values)) == values


@COMMON
@given(st.text())
def test_any_text_is_a_value_of_yaml_and_no_json_is_infinite_work(text: str) -> None:
    yaml_value(text)
    with contextlib.suppress(ValueError):
        value = parse_json(text)
        assert not isinstance(value, int) or abs(value) < 2**64
