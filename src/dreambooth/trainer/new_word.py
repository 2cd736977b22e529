"""Whether the token can become a new word: whose it is, what it starts from, and who else says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dreambooth.data.captions import fill, named_subjects
from dreambooth.data.pictures import Pictures
from dreambooth.data.prior_prompts import class_prompts
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.display import counted
from dreambooth.errors import SettingsError
from dreambooth.families.tokens import describe_token, says
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainer.class_examples import same_token_warnings
from dreambooth.weights.subjects import LearnedSubject

__all__ = ["check_earlier_subjects", "check_new_word"]


def check_new_word(pictures: Pictures, subject: SubjectSettings, trainee: TraineeSettings, prior: PriorSettings) -> None:
    """Raise SettingsError if a new word is to be learned for several subjects, or if its name or its first words cannot be.

    Class images must not say it: what they show is the base model's, which does not know the word.
    """
    if not trainee.learns_word:
        return
    is_alone = trainee.trainee == "embedding"
    asked = "trainee is embedding" if is_alone else f"embedding_words is '{trainee.embedding_words}'"
    named = named_subjects((one.photo for one in pictures.photos), subject)
    problems = []
    if len(named) > 1:
        names = ", ".join(f"'{words.token} {words.class_word}'" for words in named)
        problems.append(f"{asked}, which learns one word, and the photos show {len(named)} subjects: {names}")
    for words in named[:1]:
        if not describe_token(words.token).ids:
            learner = "trainee embedding" if is_alone else "embedding_words"
            problems.append(f"the token is empty, and {learner} learns it as a word")
        elif says(words.class_word, words.token):
            problems.append(f"the class word '{words.class_word}' says the token '{words.token}', which is to be a new word")
    problems += [problem for words in named[:1] for problem in _of_class_images(pictures, subject, prior, words.token)]
    first = subject.class_word if trainee.embedding_words is None else trainee.embedding_words
    if not describe_token(first).ids:
        problems.append("there is no class word for the new word to start from; give --embedding-words")
    if problems:
        raise SettingsError(problems)


def _of_class_images(pictures: Pictures, subject: SubjectSettings, prior: PriorSettings, token: str) -> Iterator[str]:
    """A sentence if captions of class images or the prompts to make them say the token."""
    given = [caption for one in pictures.given_priors for caption in one.captions]
    made = class_prompts(prior) if prior.prior_weight > 0 and prior.prior_images is None else ()
    prompts = [fill(one, token="", class_word=subject.class_word) for one in made]
    for what, texts in (("caption", given), ("class prompt", prompts)):
        if said := [text for text in texts if says(text, token)]:
            num = f"{counted(len(said), what)} of class images {'says' if len(said) == 1 else 'say'}"
            yield f"{num} the token '{token}', which is to be a new word: '{said[0]}'"


def check_earlier_subjects(mixed_in: Sequence[LearnedSubject], own: Sequence[LearnedSubject], trainee: TraineeSettings) -> None:
    """Raise SettingsError if earlier subjects whose images are mixed in have the token that becomes a new word."""
    if trainee.learns_word and (same := same_token_warnings(mixed_in, own)):
        raise SettingsError(same)
