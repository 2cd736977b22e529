"""The process: device, precision, signals. One process today."""
