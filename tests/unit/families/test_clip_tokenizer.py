from __future__ import annotations

import json

from dreambooth.families.clip_tokenizer import NUM_TOKENS, TOKENIZER_FOLDER


def test_the_number_of_tokens_is_that_of_the_vocabulary() -> None:
    assert len(json.loads((TOKENIZER_FOLDER / "vocab.json").read_text(encoding="utf-8"))) == NUM_TOKENS
