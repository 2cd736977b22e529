"""A training run, from preflight to the last file."""
