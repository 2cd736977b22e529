"""Making pictures: start noise, samplers, the denoising loop, picture files."""
