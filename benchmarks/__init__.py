"""Benchmarks of training and sampling. Run from the repository root: `python -m benchmarks VERB ...`."""
