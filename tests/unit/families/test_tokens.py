"""Words and tokens: the light tokenizer gives what transformers gives, and bad names for a subject are told."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from dreambooth.families import tokens as module
from dreambooth.families.tokens import describe_token, propose_tokens


@pytest.fixture(scope="module")
def oracle():
    return CLIPTokenizer.from_pretrained(module._FOLDER / "tokenizer", local_files_only=True)


def random_texts(num):
    numbers = random.Random(20)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,!?'\"-_#@()/\n\t"
    others = "éèüßñçøžğİıſ中文日本語한국어привет😀🐶👩‍🚀ﬁ½²\u0301\u200b\u00a0\u3000€"
    words = ["photo", "of", "a", "sks", "backpack", "don't", "it's", "we'll", "I'd", "<|endoftext|>", "<|startoftext|>", "ohwx"]
    for _ in range(num):
        parts = []
        for _ in range(numbers.randint(0, 8)):
            kind = numbers.random()
            if kind < 0.4:
                parts.append("".join(numbers.choices(letters, k=numbers.randint(1, 12))))
            elif kind < 0.6:
                parts.append("".join(numbers.choices(others, k=numbers.randint(1, 4))))
            elif kind < 0.9:
                parts.append(numbers.choice(words))
            else:
                parts.append(chr(numbers.choice([*range(0x20, 0xD800), *range(0xE000, 0x2FFFF)])))
        yield numbers.choice(["", " ", "  "]).join(parts)


def test_ids_are_those_of_transformers(oracle):
    texts = list(random_texts(500))
    assert len(set(texts)) > 400
    for text in texts:
        expected = oracle(text, add_special_tokens=False)["input_ids"]
        description = describe_token(text)
        assert list(description.ids) == expected, repr(text)
        assert list(description.pieces) == oracle.convert_ids_to_tokens(expected), repr(text)


def test_the_default_token_is_one_token_and_a_rifle():
    description = describe_token("sks")
    assert (description.word, description.pieces, description.ids) == ("sks", ("sks</w>",), (48136,))
    assert description.warnings == (
        "'sks' already means something: a rifle; it was the token of the first published trainers all the same",
    )


@pytest.mark.parametrize(
    ("word", "ids", "warnings"),
    [
        ("mwf", (48565,), []),
        ("dog", (1929,), ["'dog' is common (entry 1929 of 49408, where later is rarer)"]),
        ("zwx", (89, 3561), ["'zwx' is 2 tokens (z + wx), which are also parts of other words"]),
        ("sks2", (48136, 273), ["'sks2' is 2 tokens (sks + 2)"]),
        ("MWF", (48565,), ["the vocabulary is lowercase: 'MWF' is read as 'mwf'"]),
        (" mwf", (48565,), ["' mwf' has spaces in or around it"]),
        ("my mwf", (607, 48565), ["has spaces in or around it", "'my mwf' is 2 tokens (my + mwf)"]),
        ("", (), ["the word is empty, so it cannot name the subject"]),
        (" \t", (), ["the word is empty"]),
        ("trombone", (44423,), ["'trombone' is rare, but may be a word, a name or a part of one"]),
        ("olis", (49397,), ["'olis' is rare, but may be a word, a name or a part of one"]),
        ("csg", (47085,), ["'csg' is rare, but may be a word, a name or a part of one"]),
        ("ohwx", (47993,), ["'ohwx' already means something: the tag of weather reports from Ohio"]),
        ("OHWX", (47993,), ["'OHWX' is read as 'ohwx'", "weather reports from Ohio"]),
        ("<|endoftext|>", (49407,), ["contains a special token of the tokenizer, which is not a word"]),
        ("x", (343,), ["'x' is common (entry 343 of 49408"]),
    ],
)
def test_bad_names_are_told(word, ids, warnings):
    description = describe_token(word)
    assert description.ids == ids
    assert len(description.warnings) == len(warnings), description.warnings
    for found, expected in zip(description.warnings, warnings, strict=True):
        assert expected in found


def test_proposals_are_single_rare_tokens_without_a_warning(oracle):
    proposed = propose_tokens(1000)
    assert 20 <= len(proposed) <= 60
    assert len(set(proposed)) == len(proposed)
    ids = [describe_token(word).ids for word in proposed]
    assert all(len(found) == 1 for found in ids)
    assert ids == sorted(ids, reverse=True) and ids[-1][0] >= 40_000
    for word in proposed:
        assert re.fullmatch(r"[a-z]{3,4}", word) and not re.search("[aeiouy]", word)
        assert len(oracle(f"photo of a {word} dog", add_special_tokens=False)["input_ids"]) == 5
        assert describe_token(word).warnings == ()


def test_fewer_proposals_are_the_first_of_more():
    assert propose_tokens(3) == propose_tokens(10)[:3] == ("mwf", "ddc", "bgs")


@pytest.mark.parametrize("word", ["sks", "ohwx", "lsd", "gmbh", "wwdc", "zzzz", "llll", "nnnn", "wftv", "psv", "csg", "olis"])
def test_known_abbreviations_and_parts_of_words_are_not_proposed(word):
    assert len(describe_token(word).ids) == 1 and describe_token(word).warnings
    assert word not in propose_tokens(1000)


def test_every_listed_meaning_is_of_a_rare_single_token():
    meanings = module._meanings()
    assert len(meanings) > 150 and list(meanings) == sorted(meanings)
    for word, meaning in meanings.items():
        assert len(describe_token(word).ids) == 1 and describe_token(word).ids[0] >= 40_000, word
        assert meaning and meaning == meaning.strip()


def test_looking_a_word_up_needs_neither_torch_nor_transformers():
    code = (
        "import sys; from dreambooth.families.tokens import describe_token; describe_token('sks'); "
        "print([name for name in ('torch', 'transformers', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
