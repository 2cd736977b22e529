"""The training loop and what belongs to it: optimizer, average of weights, checkpoints, validation, events."""
