"""Settings files that ship with the package, chosen with `--preset NAME`."""
