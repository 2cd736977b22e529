"""One readable file per verb of the command line."""
