"""Names of tensors with the prefixes that wrappers of training programs leave in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

from dreambooth.families.unet_keys import AVERAGE_PREFIX, UNET_PREFIX

__all__ = ["plain_names", "with_convolutions"]

_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")  # of processes that share a step, and of compilation
_PROJECTION = re.compile(r"proj_(in|out)\.?weight$")  # the averages' names have no dots
_BARE_UNET = UNET_PREFIX.removeprefix("model.")
_OUTERMOST = re.compile(rf"^((?:\w+\.)+){re.escape(UNET_PREFIX)}")


def plain_names(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names that they had before they were wrapped, and a note for each kind of change.

    Where two tensors would get one name, the second keeps its own.
    """
    outermost = _common_prefix(tensors)
    plain: dict[str, Tensor] = {}
    removed = dict[str, None]()  # in order of appearance, like a set
    for name, tensor in tensors.items():
        changed = name
        for found in _WRAPPERS.findall(changed):
            removed[f"the prefix {found}. in key names was removed"] = None
        changed = _WRAPPERS.sub("", changed)
        if changed.startswith(AVERAGE_PREFIX):
            changed = changed.replace("_orig_mod", "")
        if outermost and changed.startswith(outermost):
            removed[f"the prefix {outermost} in key names was removed"] = None
            changed = changed.removeprefix(outermost)
        if changed.startswith(_BARE_UNET):
            removed["the UNet's keys lack the prefix model.; it was added"] = None
            changed = UNET_PREFIX + changed.removeprefix(_BARE_UNET)
        plain[name if changed in plain else changed] = tensor
    return plain, list(removed)


def _common_prefix(names: Iterable[str]) -> str:
    """What stands before `model.diffusion_model.` in a file where that stands before the UNet's names; else nothing."""
    plain = [_WRAPPERS.sub("", name) for name in names]
    found = next((match[1] for name in plain if (match := _OUTERMOST.match(name))), "")
    return "" if any(name.startswith(UNET_PREFIX) for name in plain) else found


def with_convolutions(
    raw: dict[str, Tensor], averages: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The UNet's tensors and their averages, with matrices around the attention as the 1x1 convolutions of Stable Diffusion 1.

    Some programs write them as matrices, which compute the same. Later families have matrices of their own there.
    """
    matrices = {
        name for tensors in (raw, averages) for name, tensor in tensors.items() if _PROJECTION.search(name) and tensor.ndim == 2
    }
    if not matrices:
        return raw, averages, []
    changed = [
        {name: tensor[:, :, None, None] if name in matrices else tensor for name, tensor in tensors.items()}
        for tensors in (raw, averages)
    ]
    return changed[0], changed[1], ["the UNet's projections around attention are matrices; they are used as 1x1 convolutions"]
