"""Image generation: start noise, samplers, the denoising loop, image files."""
