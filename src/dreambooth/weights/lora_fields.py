"""The tensors of one layer in a LoRA file, by the field that their names end in, and the difference that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from dreambooth.diffusion.low_rank import Difference, Hadamard, Kronecker, LowRank

__all__ = ["difference_of", "factor_fields"]

_KERNELS = ("hada_t1", "hada_t2")


def difference_of(fields: Mapping[str, Tensor], alpha_of: Callable[[int], float]) -> Difference | None:
    """The difference of the fields that `lora_file` reads; `alpha_of` gives the alpha of a rank. None if they hold no factors.

    Raises KeyError with the name of a missing field.
    """
    if "down" in fields or "up" in fields:
        down, up = fields["down"], fields["up"]
        return LowRank(down, up, alpha_of(down.shape[0]), fields.get("middle"))
    if any(name.startswith("hada_") for name in fields):
        first, second = ((fields[f"hada_w{number}_a"], fields[f"hada_w{number}_b"]) for number in (1, 2))
        kernels = (fields["hada_t1"], fields["hada_t2"]) if "hada_t1" in fields else None
        return Hadamard(first, second, alpha_of(first[1].shape[0]), kernels)
    if any(name.startswith("lokr_") for name in fields):
        product = Kronecker(_read_factor(fields, "lokr_w1"), _read_factor(fields, "lokr_w2"), 1.0, fields.get("lokr_t2"))
        return replace(product, alpha=alpha_of(product.rank or 1))
    return None


def _read_factor(fields: Mapping[str, Tensor], name: str) -> Tensor | tuple[Tensor, Tensor]:
    return fields[name] if name in fields else (fields[f"{name}_a"], fields[f"{name}_b"])


def factor_fields(difference: Difference) -> dict[str, Tensor] | None:
    """The factors of a difference by field of kohya's form, without alpha; None for a difference without factors."""
    match difference:
        case LowRank():
            fields = {"lora_down.weight": difference.down, "lora_up.weight": difference.up}
            return fields if difference.middle is None else {**fields, "lora_mid.weight": difference.middle}
        case Hadamard():
            named = {"hada_w1": difference.first, "hada_w2": difference.second}
            fields = {field: tensor for name, pair in named.items() for field, tensor in _factor(name, pair).items()}
            return fields if difference.kernels is None else {**fields, **dict(zip(_KERNELS, difference.kernels, strict=True))}
        case Kronecker():
            fields = {**_factor("lokr_w1", difference.first), **_factor("lokr_w2", difference.second)}
            return fields if difference.kernel is None else {**fields, "lokr_t2": difference.kernel}
        case _:
            return None


def _factor(name: str, factor: Tensor | tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {name: factor} if isinstance(factor, Tensor) else {f"{name}_a": factor[0], f"{name}_b": factor[1]}
