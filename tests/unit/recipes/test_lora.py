"""What the `lora` verbs say about words that were learned together with a LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dreambooth.display import Display
from dreambooth.recipes.lora import _say_words
from dreambooth.weights.embedding_file import WORD


def test_a_word_that_is_not_beside_its_file_is_missed(tmp_path: Path, display: Display, said: Callable[[], str]) -> None:
    """`lora merge` was silent about it, and the merged file has no trace of the word."""
    file = tmp_path / "rex.safetensors"
    _say_words([(file, {WORD: "sks"}), (tmp_path / "other.safetensors", {})], display)
    assert said() == (
        f"warning: {file}: was trained with the learned word 'sks', whose vectors are not in "
        f"{tmp_path / 'embeddings' / 'rex.safetensors'}; without them the word means little: give their file as "
        "--embedding FILE\n"
    )
