"""Captions of comma-separated tags, in other orders and with some of them left out.

The versions of a caption are a fixed pool, the same in every run, so each is encoded once; which of them a step sees is drawn.
"""

from __future__ import annotations

from dreambooth.data.settings import SubjectSettings
from dreambooth.diffusion.randomness import permutation, uniform

__all__ = ["NUM_TAG_VERSIONS", "num_tags", "tag_versions"]

NUM_TAG_VERSIONS = 16

_SEED = 0


def num_tags(caption: str) -> int:
    """How many tags a caption has."""
    return len(_tags(caption))


def tag_versions(caption: str, subject: SubjectSettings, *, token: str) -> tuple[str, ...]:
    """The versions of a caption; only itself if its tags are neither shuffled nor left out.

    The first tags stay first, and so does every tag that says the token, which is in all versions.
    """
    tags, kept = _tags(caption), subject.keep_tags
    if not (subject.shuffle_tags or subject.tag_dropout) or len(tags) <= kept:
        return (caption,)
    word = token.strip().lower()
    first = [tag for index, tag in enumerate(tags) if index < kept or (word and word in tag.lower())]
    rest = [tag for tag in tags if tag not in first]
    versions = []
    for number in range(NUM_TAG_VERSIONS):
        order = permutation(len(rest), _SEED, "tags", caption, number) if subject.shuffle_tags else range(len(rest))
        left = [rest[index] for index in order if uniform(_SEED, "tag", caption, number, index) >= subject.tag_dropout]
        versions.append(", ".join([*first, *left] or [tags[0]]))
    return tuple(versions)


def _tags(caption: str) -> list[str]:
    return [tag.strip() for tag in caption.split(",") if tag.strip()]
