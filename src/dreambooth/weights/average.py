"""Whether the moving average in a file belongs to the weights beside it.

Merging programs and some trainers hand on the average of a model that they started from. It is then the average of another
model, and training on it would lose what the file is.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreambooth.families.mapped_pages import MappedPages
from dreambooth.families.shapes import StateDict

__all__ = ["FARTHEST", "average_doubt", "distance"]

FARTHEST = 0.25
"""Distance of an average from the weights, relative to their norm, that averaging can explain. Random steps of Adam at a
learning rate of 1e-4 over the 10,000 steps of the usual average move a weight by 0.007, a fourth of a weight's usual size."""

_MOST_TENSORS = 48  # that are compared, spread evenly over the UNet
_MOST_NUMBERS = 2**18  # of each
_NOTHING = ("", "none", "null", "{}", "[]")


def average_doubt(raw: StateDict, average: StateDict, metadata: Mapping[str, str]) -> str | None:
    """The reason to think that an average belongs to another model, as the beginning of a sentence; None when there is none.

    Both state dicts are by canonical name; tensors that only one of them has, or of different shapes, are not compared.
    """
    merged = [key for key, value in metadata.items() if "merge" in key.lower() and value.strip().lower() not in _NOTHING]
    if merged:
        return f"This file is a merge of models (metadata {', '.join(sorted(merged))})"
    how_far = distance(raw, average)
    if how_far <= FARTHEST:
        return None
    return f"The moving average in this file (model_ema.*) is {how_far:.0%} away from its weights, more than averaging explains"


def distance(raw: StateDict, average: StateDict) -> float:
    """L2 norm of the difference between evenly chosen matrices, relative to the weights' own; 0 when none can be compared."""
    names = sorted(
        name for name, tensor in raw.items() if tensor.ndim > 1 and name in average and average[name].shape == tensor.shape
    )
    pages = MappedPages()
    squares = total = 0.0
    for name in names[:: max(1, len(names) // _MOST_TENSORS)]:
        pair = [tensors[name].reshape(-1)[:_MOST_NUMBERS].float() for tensors in (raw, average)]
        squares += float((pair[0] - pair[1]).square().sum())
        total += float(pair[0].square().sum())
        for tensors in (raw, average):
            pages.release(tensors[name])
    return float((squares / total) ** 0.5) if total > 0 else 0.0
