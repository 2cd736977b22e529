"""Memory predicted before a run starts."""
