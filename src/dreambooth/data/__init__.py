"""Photos to examples: reading, views, captions, class-image sets, the order of examples and the latent cache."""
