"""Settings that save memory. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dreambooth.config import Settings

__all__ = ["Checkpointing", "MemoryPreset", "MemorySettings", "Precision", "StateFormat"]

MemoryPreset = Literal[
    "auto",
    "fast",
    "24gb",
    "12gb",
    "8gb",
    "6gb",
    "sdxl-48gb",
    "sdxl-40gb",
    "sdxl-24gb",
    "sdxl-16gb",
    "sdxl-10gb",
    "sdxl-6gb",
    "cpu",
]
Precision = Literal["fp32", "bf16-mixed", "fp16-mixed", "bf16"]
StateFormat = Literal["float32", "8bit", "4bit"]
Checkpointing = Literal["off", "outer", "all"]


class MemorySettings(Settings):
    """Memory, speed and precision."""

    memory_preset: MemoryPreset = "auto"
    """Preset for a GPU of this size; auto picks the fastest for the model's family that fits into free memory. The options
    below override it."""

    precision: Precision | None = None
    """Training precision; mixed precision keeps weights in float32, bf16 keeps weights and gradients in bfloat16."""

    optimizer_states: StateFormat | None = None
    """Precision of the optimizer states: float32, or blockwise quantized to 8 or 4 bits."""

    gradient_checkpointing: Checkpointing | None = None
    """Recompute activations in the backward pass: off, on the two outer levels of the UNet (outer), or everywhere (all)."""

    micro_batch_size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Examples (photos and class images together) per forward pass; default: the whole batch."""

    step_in_backward: bool | None = None
    """Update each tensor as soon as its gradient is ready, so that they are never all in memory; costs a second pass."""

    states_on_host: bool | None = None
    """Keep optimizer states in host memory and copy them to the device one tensor at a time."""

    stream_blocks: bool | None = None
    """Keep the UNet's weights in host memory and copy its blocks to the device one at a time."""

    shard: bool | None = None
    """Shard weights, gradients and optimizer states across all processes (FSDP2) when they do not fit on one device."""
