"""The tensors required for a shape: every canonical name with its tensor shape, in module order.

Pure arithmetic, so that a file can be checked key by key before diffusers or transformers are loaded; a test compares these
lists with the modules that those libraries build.
"""

from __future__ import annotations

from collections.abc import Iterator

from dreambooth.families.shapes import Shape, TextShape, UNetShape, VaeShape

__all__ = ["text_blueprint", "unet_blueprint", "vae_blueprint"]

Entries = Iterator[tuple[str, Shape]]


def unet_blueprint(shape: UNetShape) -> dict[str, Shape]:
    """Maps the canonical name of each tensor of a UNet to its shape."""
    return dict(_unet(shape))


def vae_blueprint(shape: VaeShape) -> dict[str, Shape]:
    """Maps the canonical name of each tensor of an autoencoder to its shape."""
    return dict(_vae(shape))


def text_blueprint(shape: TextShape) -> dict[str, Shape]:
    """Maps the canonical name of each tensor of a text encoder to its shape; `position_ids` is computed, not a weight."""
    return dict(_text(shape))


def _convolution(name: str, width_in: int, width_out: int, size: int = 3) -> Entries:
    yield f"{name}.weight", (width_out, width_in, size, size)
    yield f"{name}.bias", (width_out,)


def _linear(name: str, width_in: int, width_out: int) -> Entries:
    yield f"{name}.weight", (width_out, width_in)
    yield f"{name}.bias", (width_out,)


def _norm(name: str, width: int) -> Entries:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _residual(name: str, width_in: int, width_out: int, time_width: int | None) -> Entries:
    yield from _norm(f"{name}.norm1", width_in)
    yield from _convolution(f"{name}.conv1", width_in, width_out)
    if time_width is not None:
        yield from _linear(f"{name}.time_emb_proj", time_width, width_out)
    yield from _norm(f"{name}.norm2", width_out)
    yield from _convolution(f"{name}.conv2", width_out, width_out)
    if width_in != width_out:
        yield from _convolution(f"{name}.conv_shortcut", width_in, width_out, size=1)


def _cross_attention(name: str, width: int, context_width: int) -> Entries:
    yield f"{name}.to_q.weight", (width, width)
    yield f"{name}.to_k.weight", (width, context_width)
    yield f"{name}.to_v.weight", (width, context_width)
    yield from _linear(f"{name}.to_out.0", width, width)


def _transformer(name: str, width: int, depth: int, shape: UNetShape) -> Entries:
    kernel: Shape = () if shape.has_linear_projections else (1, 1)
    yield from _norm(f"{name}.norm", width)
    yield f"{name}.proj_in.weight", (width, width, *kernel)
    yield f"{name}.proj_in.bias", (width,)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        yield from _norm(f"{block}.norm1", width)
        yield from _cross_attention(f"{block}.attn1", width, width)
        yield from _norm(f"{block}.norm2", width)
        yield from _cross_attention(f"{block}.attn2", width, shape.context_width)
        yield from _norm(f"{block}.norm3", width)
        yield from _linear(f"{block}.ff.net.0.proj", width, 8 * width)  # GEGLU: four times the width, plus its gate
        yield from _linear(f"{block}.ff.net.2", 4 * width, width)
    yield f"{name}.proj_out.weight", (width, width, *kernel)
    yield f"{name}.proj_out.bias", (width,)


def _unet(shape: UNetShape) -> Entries:
    widths = shape.widths
    time_width = 4 * widths[0]
    yield from _convolution("conv_in", shape.in_channels, widths[0])
    yield from _linear("time_embedding.linear_1", widths[0], time_width)
    yield from _linear("time_embedding.linear_2", time_width, time_width)
    if shape.vector_width:
        yield from _linear("add_embedding.linear_1", shape.vector_width, time_width)
        yield from _linear("add_embedding.linear_2", time_width, time_width)
    width = widths[0]
    skips = [width]
    for level, depth in enumerate(shape.depths):
        block = f"down_blocks.{level}"
        for layer in range(shape.num_layers):
            yield from _residual(f"{block}.resnets.{layer}", width, widths[level], time_width)
            width = widths[level]
            skips.append(width)
            if depth:
                yield from _transformer(f"{block}.attentions.{layer}", width, depth, shape)
        if level < len(widths) - 1:
            yield from _convolution(f"{block}.downsamplers.0.conv", width, width)
            skips.append(width)
    yield from _residual("mid_block.resnets.0", width, width, time_width)
    yield from _transformer("mid_block.attentions.0", width, shape.middle_depth, shape)
    yield from _residual("mid_block.resnets.1", width, width, time_width)
    for block_index, level in enumerate(reversed(range(len(widths)))):
        block = f"up_blocks.{block_index}"
        for layer in range(shape.num_layers + 1):
            yield from _residual(f"{block}.resnets.{layer}", width + skips.pop(), widths[level], time_width)
            width = widths[level]
            if shape.depths[level]:
                yield from _transformer(f"{block}.attentions.{layer}", width, shape.depths[level], shape)
        if level > 0:
            yield from _convolution(f"{block}.upsamplers.0.conv", width, width)
    yield from _norm("conv_norm_out", width)
    yield from _convolution("conv_out", width, shape.out_channels)


def _vae_middle(name: str, width: int) -> Entries:
    yield from _residual(f"{name}.resnets.0", width, width, None)
    yield from _norm(f"{name}.attentions.0.group_norm", width)
    for projection in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from _linear(f"{name}.attentions.0.{projection}", width, width)
    yield from _residual(f"{name}.resnets.1", width, width, None)


def _vae(shape: VaeShape) -> Entries:
    widths, latent_channels = shape.widths, shape.latent_channels
    width = widths[0]
    yield from _convolution("encoder.conv_in", shape.pixel_channels, width)
    for level in range(len(widths)):
        block = f"encoder.down_blocks.{level}"
        for layer in range(shape.num_layers):
            yield from _residual(f"{block}.resnets.{layer}", width, widths[level], None)
            width = widths[level]
        if level < len(widths) - 1:
            yield from _convolution(f"{block}.downsamplers.0.conv", width, width)
    yield from _vae_middle("encoder.mid_block", width)
    yield from _norm("encoder.conv_norm_out", width)
    yield from _convolution("encoder.conv_out", width, 2 * latent_channels)  # a mean and a log-variance
    yield from _convolution("decoder.conv_in", latent_channels, width)
    yield from _vae_middle("decoder.mid_block", width)
    for block_index, level in enumerate(reversed(range(len(widths)))):
        block = f"decoder.up_blocks.{block_index}"
        for layer in range(shape.num_layers + 1):
            yield from _residual(f"{block}.resnets.{layer}", width, widths[level], None)
            width = widths[level]
        if level > 0:
            yield from _convolution(f"{block}.upsamplers.0.conv", width, width)
    yield from _norm("decoder.conv_norm_out", width)
    yield from _convolution("decoder.conv_out", width, shape.pixel_channels)
    yield from _convolution("quant_conv", 2 * latent_channels, 2 * latent_channels, size=1)
    yield from _convolution("post_quant_conv", latent_channels, latent_channels, size=1)


def _text(shape: TextShape) -> Entries:
    width = shape.width
    yield "embeddings.token_embedding.weight", (shape.vocabulary, width)
    yield "embeddings.position_embedding.weight", (shape.num_positions, width)
    for index in range(shape.num_layers):
        layer = f"encoder.layers.{index}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{projection}", width, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _linear(f"{layer}.mlp.fc1", width, shape.inner_width)
        yield from _linear(f"{layer}.mlp.fc2", shape.inner_width, width)
        yield from _norm(f"{layer}.layer_norm2", width)
    yield from _norm("final_layer_norm", width)
    if shape.projection_width:
        yield "text_projection.weight", (shape.projection_width, width)
