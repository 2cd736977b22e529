"""Measurements of training and sampling, run from the repository's root: `python -m benchmarks VERB ...`."""
