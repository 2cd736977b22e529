from __future__ import annotations

import re
from pathlib import Path

import pytest

from dreambooth.cli.verbs import VERBS
from dreambooth.errors import SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.sampling.prompts import check_no_options, cut_words, read_prompts, syntax_warnings
from dreambooth.schema.leaves import leaves


def test_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff  a dog \r\n\r\n\tein Käse\n a dog".encode())
    assert read_prompts(path) == ("a dog", "ein Käse", "a dog")


def test_files_that_hold_no_prompts(tmp_path: Path) -> None:
    empty, latin, missing = tmp_path / "empty.txt", tmp_path / "latin.txt", tmp_path / "missing.txt"
    empty.write_text(" \n\n")
    latin.write_bytes("Käse".encode("latin-1"))
    for path, message in (
        (empty, f"prompts_file is {empty}: expected one prompt a line, found no prompt"),
        (latin, f"prompts_file is {latin}: expected text in UTF-8, found other bytes"),
        (missing, f"prompts_file is {missing}: cannot be read: No such file or directory"),
        (tmp_path, f"prompts_file is {tmp_path}: cannot be read: Is a directory"),
    ):
        with pytest.raises(SettingsError) as caught:
            read_prompts(path)
        assert caught.value.text.startswith(message)


def test_messages_call_the_file_as_they_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--from-file is .*missing\.txt: cannot be read"):
        read_prompts(tmp_path / "missing.txt", name="--from-file")


def test_words_beyond_77_tokens_are_named_as_they_were_written() -> None:
    tokenizer = StableDiffusion1.load_tokenizer()
    assert cut_words(tokenizer, "photo of a sks dog") == ""
    assert cut_words(tokenizer, "") == ""
    assert cut_words(tokenizer, "dog " * 75) == ""
    assert cut_words(tokenizer, "dog " * 75 + "and a Green HAT") == "and a Green HAT"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a (dog:1.3) in a wood", "(dog:1.3) sets no weight"),
        ("a dog, (red hat: .8)", "(red hat: .8) sets no weight"),
        ("a (dog (red):1.2)", "(dog (red):1.2) sets no weight"),
        ("a ((dog)) in a wood", "((dog)) sets no weight"),
        ("a [[dog]] in a wood", "[[dog]] sets no weight"),
        ("a [dog:cat:0.5]", "[dog:cat:0.5] sets no weight"),
        ("<lora:rex:0.7> a dog", "<lora:rex:0.7> loads no file"),
        ("<hypernet:rex> a dog", "<hypernet:rex> loads no file"),
    ],
)
def test_the_syntax_of_other_programs_means_nothing(prompt: str, shown: str) -> None:
    (warning,) = syntax_warnings([prompt, "a dog", prompt])
    assert warning == f"{shown} here, as it does in other programs. The model reads these letters as they are."


@pytest.mark.parametrize(
    "prompt", ["a dog (sitting)", "a dog <3", "at 12:30 (noon)", "a dog -- a good one", "a (dog): one", "a dog [sitting]"]
)
def test_ordinary_punctuation_is_no_syntax(prompt: str, tmp_path: Path) -> None:
    assert syntax_warnings([prompt]) == []
    check_no_options([prompt], tmp_path)


@pytest.mark.parametrize("options", ["--n blurry", "--w 512 --h 512", "--d 3", "--l 7.5", "--s 30"])
def test_options_behind_a_prompt_are_refused(options: str) -> None:
    with pytest.raises(SettingsError, match=rf"p.txt: 'a dog {options}' has the option {options[:3]} of kohya's") as caught:
        check_no_options([f"a dog {options}", "a cat"], Path("p.txt"))
    assert "such as --negative-prompt, --width" in str(caught.value)


@pytest.mark.parametrize("name", ["prompts_file", "--from-file", "prompts"])
def test_options_in_a_file_are_refused_with_the_number_of_their_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n\n  a dog --n blurry --w 512\na cow\na dog --s\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_prompts(path, name=name)
    first, second = caught.value.problems
    assert first.startswith(f"{name} is {path}: 'a dog --n blurry --w 512' has the option --n of kohya's trainer in line 3,")
    assert "'a dog --s' has the option --s of kohya's trainer in line 5" in second


@pytest.mark.parametrize(("name", "verb"), [("prompts_file", "generate"), ("prompts", "evaluate")])
def test_the_options_that_are_named_instead_exist(name: str, verb: str) -> None:
    flags = {leaf.flag for leaf in leaves(VERBS[verb].record())}
    with pytest.raises(SettingsError) as caught:
        check_no_options(["a dog --w 512"], Path("p.txt"), name=name)
    named = re.findall(r"--[a-z-]+", caught.value.text.rpartition("such as")[2])
    assert named and set(named) <= flags
