"""`dreambooth tokens`: rare words to name a subject with."""

from __future__ import annotations

from dataclasses import dataclass

from dreambooth.display import Display
from dreambooth.families.tokens import TokenDescription, describe_token
from dreambooth.families.tokens import propose_tokens as rarest_words
from dreambooth.schema.verbs import TokensSettings

__all__ = ["ProposedTokens", "propose_tokens"]


@dataclass(frozen=True)
class ProposedTokens:
    """The proposals, the rarest first."""

    tokens: tuple[TokenDescription, ...]


def propose_tokens(settings: TokensSettings, display: Display) -> ProposedTokens:
    """Show words that are a single rare token and not a known word."""
    words = rarest_words(settings.num_tokens)
    proposed = ProposedTokens(tuple(describe_token(word) for word in words))
    rows = [(token.word, str(token.ids[0])) for token in proposed.tokens]
    display.table("Rarest first", ("token", "id"), rows)
    if len(words) < settings.num_tokens:
        display.say(f"Only {len(words)} of the requested {settings.num_tokens} words qualify.")
    display.say(
        "These tokens are rare in the text that CLIP's vocabulary was built from, and are not known words. One may still mean "
        "something to your model: generate a few images of it with `dreambooth generate --prompt` first."
    )
    return proposed
