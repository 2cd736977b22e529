"""The original programs' command lines, translated into the one schema."""
