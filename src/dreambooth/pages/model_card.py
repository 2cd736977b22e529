"""The model card of a published model: the README.md that the hub shows, in Markdown below settings in YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreambooth.config import yaml_text
from dreambooth.display import counted
from dreambooth.reading import printable

__all__ = ["ModelCard", "ShownPicture", "ShownScore", "model_card"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")

_NUMBERED = re.compile(r"^(\d+)\.")  # the item of a list; its other mark, the parenthesis, is escaped with the rest


@dataclass(frozen=True)
class ShownPicture:
    """A picture beside the card, and the prompt that made it."""

    path: str
    prompt: str


@dataclass(frozen=True)
class ShownScore:
    """A score of one subject, with its interval and that of the base model."""

    subject: str
    name: str
    value: str
    base: str


@dataclass(frozen=True)
class ModelCard:
    """What a card tells."""

    title: str
    what: str
    """Kind and family of the model: "LoRA for Stable Diffusion 1"."""
    base: str
    """The base model as the run names it, without folders."""
    base_hub_id: str | None
    license: str
    """The hub's name of the license."""
    license_reason: str
    """Why it applies, as a sentence."""
    trigger_words: tuple[str, ...]
    prompts: tuple[str, ...]
    """Prompts that the subjects were trained with."""
    file: str
    pictures: tuple[ShownPicture, ...]
    scores: tuple[ShownScore, ...]
    word: str | None
    """A word that was learned, in the model's own file or in `word_file`."""
    word_file: str | None
    """The word's file beside the model."""
    num_steps: int | None
    """Steps that the model was trained for; None if its file does not say."""
    num_photos: int
    settings: Mapping[str, Any]
    """The settings of the run, without paths."""


def model_card(card: ModelCard) -> str:
    """The card as text. Words and prompts cannot break out of their place."""
    head: dict[str, Any] = {"license": card.license}
    head |= {} if card.base_hub_id is None else {"base_model": card.base_hub_id}
    head |= {"pipeline_tag": "text-to-image", "tags": ["text-to-image", "stable-diffusion", "dreambooth", *_kind_tag(card)]}
    head |= {"instance_prompt": printable(card.prompts[0])} if card.prompts else {}
    steps = "" if card.num_steps is None else f" for {counted(card.num_steps, 'step')}"
    photos = f" on {counted(card.num_photos, 'photo')}" if card.num_photos else ""
    parts = [
        f"---\n{yaml_text(head)}---",
        f"# {_escaped(card.title)}",
        f"{card.what}, trained from {_escaped(card.base)}{steps}{photos}. The weights: `{card.file}`.",
        *_learned_word(card),
        *_words(card),
        *_pictures(card.pictures),
        *_scores(card.scores),
        "## License",
        f"{_escaped(card.license)}. {card.license_reason}",
        "## Settings",
        _fenced(yaml_text(card.settings)),
    ]
    return "\n\n".join(parts) + "\n"


def _kind_tag(card: ModelCard) -> list[str]:
    is_word_alone = card.word is not None and card.word_file is None
    return ["lora"] if card.what.startswith("LoRA") else ["textual_inversion"] if is_word_alone else []


def _learned_word(card: ModelCard) -> list[str]:
    if card.word is None:
        return []
    word, file = _escaped(card.word), card.word_file or card.file
    return [
        f"Prompts need the learned word {word}, whose vectors are in `{file}`. diffusers is told the word when it loads them "
        f"(`token`); other programs know it by the file's name, so rename the file to {word}."
    ]


def _words(card: ModelCard) -> list[str]:
    if not card.trigger_words:
        return []
    lines = [f"- {_escaped(word)}" for word in card.trigger_words]
    prompts = [f"- {_escaped(prompt)}" for prompt in card.prompts]
    return ["## Trigger words", "\n".join(lines), *(["Trained with the prompts:", "\n".join(prompts)] if prompts else [])]


def _pictures(pictures: Sequence[ShownPicture]) -> list[str]:
    if not pictures:
        return []
    rows = [f"| ![]({one.path}) | {_escaped(one.prompt)} |" for one in pictures]
    return ["## Pictures", "\n".join(["| picture | prompt |", "|---|---|", *rows])]


def _scores(scores: Sequence[ShownScore]) -> list[str]:
    if not scores:
        return []
    rows = [f"| {_escaped(one.subject)} | {_escaped(one.name)} | {one.value} | {one.base} |" for one in scores]
    table = "\n".join(["| subject | score | this model | base model |", "|---|---|---|---|", *rows])
    return ["## Scores", table, "Brackets: confidence interval. Measured by `dreambooth evaluate`."]


def _escaped(text: str) -> str:
    """One line of text in which nothing is Markdown or HTML."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()).replace("&", "&amp;"))
    return _NUMBERED.sub(r"\1\\.", escaped)


def _fenced(text: str) -> str:
    """A block of YAML behind a fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text}{fence}"
