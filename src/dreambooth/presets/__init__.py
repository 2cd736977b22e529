"""Built-in presets, chosen with `--preset NAME`."""
