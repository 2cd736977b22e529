"""The training loop and its parts: optimizers, weight averaging, checkpoints and validation."""
