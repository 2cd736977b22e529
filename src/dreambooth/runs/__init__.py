"""A run on the disk: folder, names of its models, events, lock, progress."""
