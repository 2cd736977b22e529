"""What distinguishes one family of Stable Diffusion from another: recognition, building, encoding, predicting."""
