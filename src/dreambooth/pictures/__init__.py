"""A model that makes pictures: on request, as class images, or from a cache of samples."""
