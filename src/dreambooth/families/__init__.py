"""Everything specific to a family of Stable Diffusion: recognition, building, encoding, predicting."""
