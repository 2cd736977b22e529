"""Image generation: on request, as class images, or from a cache of samples."""
