"""The metadata by which the lists of other programs describe a LoRA: its base model, its captions and its training."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from dreambooth.trainer.ready import Ready

__all__ = ["lora_metadata"]

_QUICK_HASH_START, _QUICK_HASH_LENGTH, _QUICK_HASH_LETTERS = 0x100000, 0x10000, 8


def lora_metadata(ready: Ready, step: int) -> dict[str, str]:
    """Keys of kohya's programs, without any path; `ss_tag_frequency` gives the words that some programs offer as buttons."""
    learned, setup = ready.learned, ready.setup
    captions = Counter(caption for one in learned.photos for caption in one.captions)
    base = ready.base.report.source
    quick_hash = _quick_hash(base)
    return {
        "ss_output_name": ready.run.path.absolute().name,
        "ss_sd_model_name": base.name,
        **({} if quick_hash is None else {"ss_sd_model_hash": quick_hash}),
        "ss_tag_frequency": json.dumps({ready.run.path.absolute().name: dict(captions)}),
        "ss_num_train_images": str(len(learned.photos)),
        "ss_num_reg_images": str(len(learned.given_priors)),
        "ss_resolution": f"({ready.size.width}, {ready.size.height})",
        "ss_learning_rate": f"{setup.optimizer.rate:g}",
        "ss_optimizer": setup.optimizer.optimizer,
        "ss_seed": str(setup.loop.seed),
        "ss_steps": str(step),
    }


def _quick_hash(file: Path) -> str | None:
    """The short hash of a model file that lists of models show; None for a folder, and for a file too small for it."""
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        opened.seek(_QUICK_HASH_START)
        data = opened.read(_QUICK_HASH_LENGTH)
    return hashlib.sha256(data).hexdigest()[:_QUICK_HASH_LETTERS] if data else None
