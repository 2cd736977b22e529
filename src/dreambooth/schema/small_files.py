"""What a LoRA and a learned word exclude, which are written as small .safetensors files. Loads no torch."""

from __future__ import annotations

from dreambooth.data.settings import PriorSettings
from dreambooth.memory.settings import MemorySettings
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.settings import OutputSettings

__all__ = ["check_small_files"]


def check_small_files(
    trainee: TraineeSettings, *, output: OutputSettings, memory: MemorySettings, prior: PriorSettings
) -> None:
    """Raise ValueError for settings that such a file cannot follow, or that would have no effect on it."""
    if trainee.keeps_base:
        _check_kept_base(trainee, output, memory, prior)
    elif trainee.learns_word:
        _check_word_beside_model(output, memory)


def _check_kept_base(trainee: TraineeSettings, output: OutputSettings, memory: MemorySettings, prior: PriorSettings) -> None:
    """A LoRA or a word is a small .safetensors file, has little to share among processes, and needs no predictions on disk."""
    what = "a LoRA" if trainee.trainee == "lora" else "a learned word"
    if output.file_layout != "own":
        raise ValueError(
            f"file_layout is {output.file_layout}, whose models are .ckpt files, and {what} is a .safetensors file; "
            "use only one of them"
        )
    if memory.stream_blocks and trainee.dora:
        raise ValueError("dora measures the weights of each layer, which stream_blocks moves away; use only one of them")
    if memory.shard:
        raise ValueError(f"shard distributes trained weights, and those of {what} are few; use --no-shard or --trainee full")
    if trainee.trainee == "lora" and not prior.keep_predictions:
        raise ValueError(
            "keep_predictions would have no effect with trainee lora, for which the base model is asked in every step; omit it"
        )


def _check_word_beside_model(output: OutputSettings, memory: MemorySettings) -> None:
    if output.file_layout != "own":
        raise ValueError(
            f"file_layout is {output.file_layout}, whose .ckpt files cannot name the word that embedding_words trains beside "
            "the model; use only one of them"
        )
    if memory.shard:
        raise ValueError(
            "shard distributes the weights of a model, and embedding_words trains a word beside them; use only one of them"
        )
