"""Runs operations on meta tensors as a CUDA device would: with mixed precision, and attention that stores no scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

__all__ = ["AsOnCuda"]

# https://docs.pytorch.org/docs/stable/amp.html, "CUDA Op-Specific Behavior": the part relevant to the supported models.
_SHORT = {
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("matmul", "__matmul__", "__rmatmul__", "mm", "mv", "bmm", "addmm", "addbmm", "baddbmm", "scaled_dot_product_attention"),
}
_FLOAT32 = {
    *("group_norm", "layer_norm", "norm", "exp", "expm1", "log", "log10", "log1p", "log2", "pow", "__pow__", "__rpow__"),
    *("reciprocal", "rsqrt", "softmax", "log_softmax", "softmin", "sum", "prod", "cumsum", "cumprod"),
    *("mse_loss", "l1_loss", "smooth_l1_loss", "cosine_similarity", "cdist"),
}
_LARGEST_FLASH_WIDTH = 256  # of a head


class AsOnCuda(TorchFunctionMode):
    """While active, makes the meta device behave like CUDA.

    - Mixed precision is on wherever torch.autocast("cpu") is on. That flag itself has no effect here, but torch carries it
      into what is recomputed in the backward pass. 16-bit copies of weights live until the first operation outside.
    - Fused attention keeps queries, keys, values, the result and one number per row, but never the scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # maps a weight's id to the weight and its copy

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Convert the arguments that mixed precision converts, then run the operation or its substitute."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if not torch.is_autocast_enabled("cpu"):
            self._copies.clear()
        elif name in _SHORT:
            short = torch.get_autocast_dtype("cpu")
            args, kwargs = tree_map(lambda leaf: self._converted(leaf, short), (args, kwargs))
        elif name in _FLOAT32:
            args, kwargs = tree_map(lambda leaf: self._converted(leaf, torch.float32), (args, kwargs))
        if name == "scaled_dot_product_attention":
            return _attention(func, *args, **kwargs)
        return func(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        """The backward pass of a scalar, with this mode active during recomputation.

        Tensor.backward would disable the mode for its whole duration, so this calls torch's engine directly.
        """
        with self:
            torch.autograd.Variable._execution_engine.run_backward(
                (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
            )

    def _converted(self, leaf: Any, dtype: torch.dtype) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dtype in (dtype, torch.float64):
            return leaf
        if dtype == torch.float32 or not (leaf.requires_grad and leaf.is_leaf):
            return leaf.to(dtype)
        if id(leaf) not in self._copies:
            self._copies[id(leaf)] = leaf, leaf.to(dtype)
        return self._copies[id(leaf)][1]


def _attention(plain: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, **choices: Any) -> Tensor:
    """Flash attention in 16 bits, memory-efficient attention in float32; no family uses an explicit mask, which stays plain."""
    if choices.get("attn_mask") is not None or choices.get("enable_gqa"):
        return plain(query, key, value, **choices)
    dropout, is_causal = choices.get("dropout_p", 0.0), choices.get("is_causal", False)
    if query.dtype == torch.float32 or query.shape[-1] > _LARGEST_FLASH_WIDTH:
        keeps_rows = torch.is_grad_enabled() and query.requires_grad
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        result: Tensor = efficient(query, key, value, None, keeps_rows, dropout, is_causal)[0]
    else:
        result = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout, is_causal)[0]
    return result
