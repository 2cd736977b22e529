"""What holds the model in place: class images, the photos under class prompts, and images of subjects learned earlier.

Kinds of class examples are drawn equally often, however many examples each has, so that a kind with few is not drowned.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dreambooth.data.captions import fill, named_settings
from dreambooth.data.pictures import Pictures
from dreambooth.data.prior_prompts import photos_as_class_examples
from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.settings import PriorSettings, PriorTarget, SubjectSettings
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.subjects import LearnedSubject, learned_subjects

__all__ = [
    "balanced",
    "classes_without_images",
    "earlier_subjects",
    "given_by_class",
    "made_classes",
    "num_class_examples",
    "own_subjects",
    "prior_target",
    "replay_text",
    "replayed",
    "same_token_warnings",
]


def own_subjects(photos: Sequence[CaptionedPhoto], subject: SubjectSettings) -> tuple[LearnedSubject, ...]:
    """The subjects that a run learns."""
    usual = SubjectSettings.model_fields["instance_prompt"].default
    named = [
        (one, one.instance_prompt if one.captions == "prompt" else usual)
        for one in named_settings((photo.photo for photo in photos), subject)
    ]
    return tuple(
        LearnedSubject(one.token, one.class_word, fill(template, token=one.token, class_word=one.class_word))
        for one, template in named
    )


def classes_without_images(subject: SubjectSettings) -> tuple[str, ...]:
    """The class words of all subjects, each once, without those for which a list of subjects names a folder of images."""
    given = {one.class_word for one in subject.subjects if one.prior_images is not None}
    return tuple(dict.fromkeys(one.class_word for one in subject.each() if one.class_word not in given))


def made_classes(subject: SubjectSettings, prior: PriorSettings) -> tuple[str, ...]:
    """The class words of which the base model generates images: a class that two subjects share is generated once."""
    return classes_without_images(subject) if prior.num_made else ()


def given_by_class(images: Sequence[CaptionedPhoto], subject: SubjectSettings) -> dict[str, tuple[CaptionedPhoto, ...]]:
    """The given class images by class word, for every class; with a list of subjects, those of other folders come last."""
    if not subject.subjects:
        return {subject.class_word: tuple(images)}
    folders = [(one.class_word, one.prior_images.absolute()) for one in subject.subjects if one.prior_images is not None]
    by_class: dict[str, list[CaptionedPhoto]] = {one.class_word: [] for one in subject.subjects}
    for image in images:
        place = image.photo.path.absolute()
        word = next((word for word, folder in folders if place.is_relative_to(folder)), "")
        by_class.setdefault(word, []).append(image)
    return {word: tuple(own) for word, own in by_class.items()}


def earlier_subjects(base: ModelWeights, pictures: Pictures, subject: SubjectSettings) -> tuple[LearnedSubject, ...]:
    """The subjects that the base model knows and that this run does not learn itself."""
    own = {one.name for one in own_subjects(pictures.photos, subject)}
    return tuple(one for one in learned_subjects(base) if one.name not in own)


def replayed(earlier: Sequence[LearnedSubject], prior: PriorSettings) -> tuple[LearnedSubject, ...]:
    """The earlier subjects whose images are mixed in."""
    return tuple(earlier) if prior.keeps_earlier else ()


def prior_target(prior: PriorSettings, earlier: Sequence[LearnedSubject]) -> PriorTarget:
    """What class examples are compared with: as the settings say, else by what holds best."""
    if prior.prior_target is not None:
        return prior.prior_target
    return "prediction" if prior.prior_examples != "images" or replayed(earlier, prior) else "noise"


def balanced(kinds: Sequence[Sequence[CaptionedPhoto]], prior: PriorSettings) -> tuple[CaptionedPhoto, ...]:
    """All kinds of class examples, each repeated until all have as many; in the original's pairs just one after the other."""
    there = [kind for kind in kinds if kind]
    longest = None if prior.original_pairing else max(map(len, there), default=0)
    return tuple(
        one for kind in there for one in (kind if longest is None else itertools.islice(itertools.cycle(kind), longest))
    )


def num_class_examples(pictures: Pictures, prior: PriorSettings, subject: SubjectSettings, *, num_replayed: int) -> int:
    """How many `balanced` will return, with images still to be generated."""
    has_photos = prior.prior_weight > 0 and prior.prior_examples != "images"
    photos = len(photos_as_class_examples(pictures.photos, prior, subject)) if has_photos else 0
    made = made_classes(subject, prior)
    given = given_by_class(pictures.given_priors, subject)
    of_classes = [len(images) + (prior.num_made if word in made else 0) for word, images in given.items()]
    counts = [*of_classes, photos, *[prior.replay_images] * num_replayed]
    there = [count for count in counts if count]
    return sum(there) if prior.original_pairing else len(there) * max(there, default=0)


def replay_text(earlier: Sequence[LearnedSubject], prior: PriorSettings) -> str:
    """What happens to subjects that the base model knows, as a sentence."""
    names = ", ".join(repr(one.name) for one in earlier)
    if replayed(earlier, prior):
        return (
            f"The base model knows {names}: {prior.replay_images} images of each are generated and mixed in, so that training "
            "keeps it (--no-replay turns this off)"
        )
    return f"The base model knows {names}, which this training does not keep"


def same_token_warnings(earlier: Sequence[LearnedSubject], own: Sequence[LearnedSubject]) -> list[str]:
    """One word for two subjects of one model."""
    known = {one.token: one.name for one in earlier}
    return [
        f"{one.token!r} already names a subject of the base model ({known[one.token]!r}): choose another --token, or both mix"
        for one in own
        if one.token in known
    ]
