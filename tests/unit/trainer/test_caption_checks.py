"""Captions that would not teach the token are told, with the numbers, the words and the next command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.pictures import Pictures
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import PhotoError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainer.caption_checks import caption_warnings, check_token_is_said, class_prompt_warnings, is_silent

SUBJECT = SubjectSettings(photos=Path("photos"), class_word="vase")
NO_PRIOR = PriorSettings(prior_weight=0)
LONG = "a red and blue thing on the table near the window, " * 12


def captioned(*captions: str, folder: str = "photos") -> tuple[CaptionedPhoto, ...]:
    """Photos whose captions stand in files, under names 0.png, 1.png, ..."""
    return tuple(
        CaptionedPhoto(Photo(Path(folder, f"{index}.png"), str(index), 64, 64, caption), caption)
        for index, caption in enumerate(captions)
    )


def pictures(*captions: str, priors: tuple[str, ...] = ()) -> Pictures:
    return Pictures(captioned(*captions), captioned(*priors, folder="class"), ())


def warnings(*captions: str, priors: tuple[str, ...] = (), prior: PriorSettings = NO_PRIOR) -> list[str]:
    return caption_warnings(pictures(*captions, priors=priors), SUBJECT, prior, StableDiffusion1.load_tokenizer())


def refused(*captions: str, subject: SubjectSettings = SUBJECT) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        check_token_is_said(pictures(*captions), subject)
    return caught.value


@pytest.mark.parametrize("caption", ["photo of a sks vase", "SKS", "a vase (sks), at night", "sks's vase", "sks_vase"])
def test_the_token_is_heard_wherever_the_tokenizer_finds_it(caption: str) -> None:
    check_token_is_said(pictures(caption), SUBJECT)
    assert warnings(caption) == []


@pytest.mark.parametrize("caption", ["a vase", "photo of a sksx vase", "photo of sksvase", f"{LONG} sks vase"])
def test_captions_without_the_token_are_refused(caption: str) -> None:
    error = refused(caption, caption)
    assert error.problems[0].startswith("none of the 2 captions says the token 'sks', so it would not be learned; ")
    assert error.hint is not None
    assert error.hint.splitlines()[-1] == "To train with these captions anyway: --allow-silent-token"
    assert "Write {token} into the caption files" in error.hint


def test_the_word_that_was_meant_is_proposed() -> None:
    error = refused("photo of a zwx vase", "a zwx vase, at night")
    assert error.hint is not None and error.hint.startswith("If 'zwx' is the token: --token zwx\n")
    assert "If '" not in (refused("a blue vase", "a blue vase").hint or "")


def test_a_template_without_the_token_is_refused() -> None:
    one = CaptionedPhoto(Photo(Path("photos/0.png"), "0", 64, 64, None), "a picture")
    with pytest.raises(PhotoError) as caught:
        check_token_is_said(Pictures((one,), (), ()), SUBJECT)
    assert 'Say the token early in the prompt: --instance-prompt "photo of a {token} {class_word}"' in caught.value.text


def test_who_says_so_may_train_in_silence() -> None:
    allowed = SUBJECT.model_copy(update={"allow_silent_token": True})
    check_token_is_said(pictures("a vase"), allowed)
    assert warnings("a vase") == ["1 of 1 caption does not say the token 'sks': that of 0.png is 'a vase'"]


def test_some_captions_without_the_token_are_counted() -> None:
    check_token_is_said(pictures("a sks vase", "a vase", "the vase"), SUBJECT)
    assert warnings("a sks vase", "a vase", "the vase") == [
        "2 of 3 captions do not say the token 'sks': that of 1.png is 'a vase'"
    ]


def test_a_token_that_is_cut_off_is_told_with_the_words_that_are_lost() -> None:
    one, other = warnings("a sks vase", f"{LONG}sks vase")
    assert one.startswith("1 of 2 captions does not say the token 'sks': in that of 1.png it stands beyond the 75 tokens")
    assert "is longer than the 75 tokens the model reads; this part is ignored: " in other


def test_long_captions_are_told_up_to_a_number() -> None:
    told = warnings(*(f"sks {index} {LONG}" for index in range(8)))
    assert len(told) == 6 and told[-1] == "3 more texts are cut as well"


def test_every_subject_needs_its_own_token() -> None:
    by_name = SUBJECT.model_copy(update={"captions": "filename"})
    places = {"rex/dog/1.png": "a rex dog", "ada/cat/1.png": "a cat", "ada/cat/2.png": "the cat"}
    photos = tuple(CaptionedPhoto(Photo(Path("photos", at), at, 64, 64, None), said) for at, said in places.items())
    with pytest.raises(PhotoError) as caught:
        check_token_is_said(Pictures(photos, (), ()), by_name)
    assert caught.value.problems == (
        "none of the 2 captions says the token 'ada', so it would not be learned; that of 1.png is 'a cat'",
    )
    assert "001@S asleep.jpg" in (caught.value.hint or "")


def test_class_images_must_not_say_the_token() -> None:
    (told,) = warnings("a sks vase", priors=("a sks vase", "a vase"))
    assert told.startswith("the captions of 1 of 2 class images say the token 'sks'") and "0.png" in told


def test_a_class_prompt_says_its_class_and_is_read_to_its_end() -> None:
    tokenizer = StableDiffusion1.load_tokenizer()
    assert class_prompt_warnings(["photo of a vase", ""], "vase", tokenizer) == []
    assert class_prompt_warnings(["a vase", "", "a picture"], "vase", tokenizer) == [
        "1 of 2 class prompts do not say the class word 'vase' (the first: 'a picture'), "
        "so the class images will show something else"
    ]
    (told,) = warnings("a sks vase", prior=PriorSettings(class_prompt="a picture"))
    assert told.startswith("the class prompt 'a picture' does not say the class word 'vase'")
    first, second = warnings("a sks vase", prior=PriorSettings(class_prompt=f"{LONG}{{class_word}}"))
    assert "does not say the class word" in first and "this part is ignored" in second


def test_silence() -> None:
    assert is_silent(captioned("a vase"), "sks") and not is_silent(captioned("a vase", "sks"), "sks")


def test_nothing_is_wrong_with_the_usual_captions() -> None:
    assert warnings("photo of a sks vase", prior=PriorSettings()) == []
