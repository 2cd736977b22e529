"""What is traded for memory. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dreambooth.config import Settings

__all__ = ["Checkpointing", "MemoryPreset", "MemorySettings", "Precision", "StateFormat"]

MemoryPreset = Literal["auto", "fast", "24gb", "12gb", "8gb", "6gb", "cpu"]
Precision = Literal["fp32", "bf16-mixed", "fp16-mixed", "bf16"]
StateFormat = Literal["float32", "8bit", "4bit"]
Checkpointing = Literal["off", "outer", "all"]


class MemorySettings(Settings):
    """How memory is traded for time and exactness."""

    memory_preset: MemoryPreset = "auto"
    """Choices for a card of this size; auto takes the fastest that fits what is free. Each choice below may be made apart."""

    precision: Precision | None = None
    """Arithmetic of training. The mixed ones keep the weights in float32; bf16 holds weights and gradients in bfloat16."""

    optimizer_states: StateFormat | None = None
    """Number format of the optimiser's means: float32, or 8 or 4 bits in blocks with a scale of their own."""

    gradient_checkpointing: Checkpointing | None = None
    """Recompute activations in the backward pass: nowhere, on the two outer levels of the UNet, or everywhere."""

    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Examples in one forward pass, photos and class images counted together; a step's batch at once when not given."""

    step_in_backward: bool | None = None
    """Update each tensor as soon as its gradient is there, so that gradients never exist together; costs a second pass."""

    states_on_host: bool | None = None
    """Keep the optimiser's means in host memory; they visit the device tensor by tensor."""

    stream_blocks: bool | None = None
    """Keep the UNet's weights in host memory; its blocks visit the device one at a time."""

    shard: bool | None = None
    """Spread weights, gradients and means over all processes (FSDP2), for what does not fit on one device."""
