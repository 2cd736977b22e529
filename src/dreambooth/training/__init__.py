"""The training loop and what belongs to it: optimiser, average of weights, checkpoints, validation, events."""
